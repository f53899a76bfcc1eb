//! The command `slim`.
fn main() {}
