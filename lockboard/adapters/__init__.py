"""How the world answers: boto3 and SQLAlchemy. The only rooms that know botocore or SQL."""
