//! Views: what a client gets to see, by where it asks from.

/// What a client gets to see of names that have only IPv4 addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// Synthesized addresses.
    #[default]
    Translated,
    /// What is there, and nothing else.
    Untranslated,
}

impl View {
    /// A number of two bits.
    pub const fn number(self) -> u8 {
        match self {
            Self::Translated => 0,
            Self::Untranslated => 1,
        }
    }
}
