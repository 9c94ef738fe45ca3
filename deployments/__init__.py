"""The service: the three stages as a Ray Serve graph behind HTTP."""
