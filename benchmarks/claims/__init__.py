"""The accuracy claims of the guide, tested again on held-out tracks."""
