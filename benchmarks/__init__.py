"""Long measurements behind the tables in docs: each is a module with a command line, and `make
soak` asserts what the docs claim."""
