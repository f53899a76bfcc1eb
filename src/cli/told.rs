//! What a verb tells on standard output, in all its forms, and how the program ends.

use crate::exit::Exit;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// For people.
    pub text: String,
    /// One line of JSON.
    pub json: String,
    /// All that a quiet run says.
    pub quiet: String,
    /// The exit code.
    pub exit: Exit,
}
