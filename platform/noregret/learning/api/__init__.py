"""What was learned, and from what, over HTTP. No call here changes anything."""
