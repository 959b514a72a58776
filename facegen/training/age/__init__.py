"""Training the age estimator."""
