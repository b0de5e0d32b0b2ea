//! What became of a received message, with a counted reason.
use sixgate_wire::ndp::ParseError;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A valid solicitation; an advertisement is due.
    Solicited,
    /// A valid advertisement of somebody else on the link.
    OtherRouter,
    /// Dropped.
    Dropped(Reason),
}

impl Verdict {
    /// Stable kebab-case name, for counters and the console.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Solicited => "ra-solicited",
            Self::OtherRouter => "ra-other-router",
            Self::Dropped(reason) => reason.name(),
        }
    }
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A validity check of RFC 4861 section 6.1 failed.
    Invalid(ParseError),
    /// Neither a solicitation nor an advertisement of routers.
    NotRouterDiscovery,
    /// Our own advertisement came back.
    Own,
    /// A solicitation after advertising has ceased (RFC 4861 section 6.2.5).
    Ceased,
    /// A solicitation of a host that asks more often than it is answered.
    TooOften,
    /// A solicitation that cannot be answered where nothing is multicast: it says not by whom, or too many ask.
    NobodyToAnswer,
}

impl Reason {
    /// Stable kebab-case name, for counters and the console.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid(error) => error.name(),
            Self::NotRouterDiscovery => "ra-not-router-discovery",
            Self::Own => "ra-own",
            Self::Ceased => "ra-ceased",
            Self::TooOften => "ra-solicited-too-often",
            Self::NobodyToAnswer => "ra-nobody-to-answer",
        }
    }
}
