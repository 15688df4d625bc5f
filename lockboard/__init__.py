"""Lockboard: every Terraform state key in S3 beside its lock and its digest, with what Terraform will do and
why.
"""

__version__ = "0.1.0"
