"""How good age transfer is on real faces: age, identity, reconstruction, realism and time, with judges of its own."""
