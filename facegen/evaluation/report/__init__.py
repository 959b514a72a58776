"""The report on an evaluation: tables, charts, strips, and the page that shows them."""
