"""A web page on this machine, by gradio (`facegen app`): start with page.py."""
