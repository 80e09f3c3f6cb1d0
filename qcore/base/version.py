"""The version of the package, read by its build, the command line, exports and the protocol."""

VERSION = "0.1.0"
