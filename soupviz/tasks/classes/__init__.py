"""Tasks whose answer is one class, or several."""
