//! What a container has of its own: names that say nothing about the program.

/// Texts that are a container's own (its host name, its addresses, its published ports), each replaced in its answers by a word
/// for it, so that the answers of two containers can be compared.
#[derive(Debug, Clone, Default)]
pub struct Own(Vec<(String, &'static str)>);

impl Own {
    /// Each text with the word for it, such as `("172.17.0.2", "address")`.
    #[must_use]
    pub fn new(texts: impl IntoIterator<Item = (String, &'static str)>) -> Self {
        Self(texts.into_iter().collect())
    }
}
