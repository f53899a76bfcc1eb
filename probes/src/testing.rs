//! Small real servers for the tests.
