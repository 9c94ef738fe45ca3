"""The Ray Serve deployments: ingress and the three stages."""
