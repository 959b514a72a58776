"""All photos and clips of one command: which they are, what is written for each, and the page that shows them all."""
