//! The pages, their keys and their order.

/// What fills the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    /// Everything, briefly.
    #[default]
    Overview,
    /// Uplink and LANs.
    Network,
    /// VMs and their containers.
    Vms,
    /// What the uplink has lent, and what has changed.
    Prefixes,
    /// The translator.
    Translator,
    /// The translator's sessions.
    Sessions,
    /// The resolver.
    Resolver,
    /// The firewall, rule by rule.
    Firewall,
    /// The machine and the daemon.
    System,
    /// What the daemon has logged.
    Log,
    /// The configurations that are kept.
    Configurations,
    /// All findings in full.
    Findings,
    /// What an action tells.
    Output,
    /// The configuration, to be edited.
    Editor,
    /// Keys and words.
    Help,
}

impl View {
    /// What stands in the line of pages, with key and title, in this order.
    pub(super) const PAGES: [(Self, char, &str); 12] = [
        (Self::Overview, 'o', "Overview"),
        (Self::Findings, 'f', "Findings"),
        (Self::Network, 'l', "LANs"),
        (Self::Vms, 'v', "VMs"),
        (Self::Translator, 't', "NAT64"),
        (Self::Sessions, 's', "Sessions"),
        (Self::Resolver, 'd', "DNS"),
        (Self::Firewall, 'w', "Firewall"),
        (Self::Prefixes, 'u', "Prefixes"),
        (Self::System, 'm', "Machine"),
        (Self::Log, 'i', "Log"),
        (Self::Configurations, 'c', "History"),
    ];

    /// The page so many places further, round and round.
    pub(super) fn further(self, pages: isize) -> Self {
        let at = Self::PAGES.iter().position(|(view, ..)| *view == self);
        let at = at.map_or(0, |at| at.wrapping_add_signed(pages).wrapping_add(Self::PAGES.len()) % Self::PAGES.len());
        Self::PAGES[at].0
    }
}
