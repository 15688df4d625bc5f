"""What is true: Terraform's S3 backend, its locks, digests and state objects.

Standard library only; no clock, network or database.
"""
