"""A small estate on an embedded AWS emulator, to try Lockboard without an AWS account."""
