"""Generators of files that are kept in the repository: k8s patches and Grafana dashboards."""
