"""The controller: the only place where objects are built, and the only one that prints."""
