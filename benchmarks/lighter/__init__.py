"""What each mechanism that makes the server faster or quieter brings on its own: with it, beside without it."""
