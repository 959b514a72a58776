"""Photos and clips of one command: which they are, what is written of each, and the page that shows them all."""
