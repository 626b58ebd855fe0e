"""What is best: search spaces, and the search for the best network in them."""
