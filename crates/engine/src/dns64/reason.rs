//! How a query ended: one reason each, counted by name.
use super::ede::ExtendedError;

/// How a query ended, or why an upstream's message did not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Passed on as the upstream said it.
    Forwarded,
    /// Addresses were synthesized (RFC 6147 section 5.1.7).
    Synthesized,
    /// The name has neither a usable AAAA nor an A record (section 5.1.6).
    NoAddress,
    /// The name's IPv4 addresses are not to be translated (RFC 6052 section 3.1).
    NotTranslatable,
    /// `ipv4only.arpa` and what is below, answered here (RFC 8880).
    Ipv4Only,
    /// A name of this network, or one that means nothing outside of it (RFC 6761, RFC 6303).
    Local,
    /// The name of a synthesized address (RFC 6147 section 5.3.1).
    Reverse,
    /// No upstream answered.
    Unanswered,
    /// No upstream is configured.
    NoUpstream,
    /// The answer's signatures prove nothing (RFC 4035 section 5.5).
    Bogus,
    /// The answer's signatures have expired, or the clock is fast.
    BogusExpired,
    /// The answer's signatures do not hold yet, or the clock is slow.
    BogusEarly,
    /// The answer is not signed, although it should be.
    BogusUnsigned,
    /// The query is not a DNS message.
    Malformed,
    /// The query does not ask one question.
    QuestionCount,
    /// The opcode is not QUERY.
    Opcode,
    /// The question is for another class than IN.
    Class,
    /// A zone transfer was asked for.
    Transfer,
    /// ANY or another meta type was asked for (RFC 8482).
    MetaType,
    /// The query does not desire recursion, and there is nothing else here.
    NoRecursion,
    /// An unknown version of EDNS (RFC 6891 section 6.1.3).
    EdnsVersion,
    /// Too short to be answered.
    Short,
    /// A response where a query was expected.
    NotAQuery,
    /// A stranger's name with private addresses, which were taken out (DNS rebinding).
    Rebinding,
    /// An upstream's message that does not answer the question (RFC 5452 section 9.1).
    Mismatch,
}

impl Reason {
    /// Stable kebab-case name, for counters and the console.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "dns-forwarded",
            Self::Synthesized => "dns-synthesized",
            Self::NoAddress => "dns-no-address",
            Self::NotTranslatable => "dns-not-translatable",
            Self::Ipv4Only => "dns-ipv4only",
            Self::Local => "dns-local",
            Self::Reverse => "dns-reverse",
            Self::Unanswered => "dns-unanswered",
            Self::NoUpstream => "dns-no-upstream",
            Self::Bogus => "dns-bogus",
            Self::BogusExpired => "dns-bogus-expired",
            Self::BogusEarly => "dns-bogus-early",
            Self::BogusUnsigned => "dns-bogus-unsigned",
            Self::Malformed => "dns-malformed",
            Self::QuestionCount => "dns-question-count",
            Self::Opcode => "dns-opcode",
            Self::Class => "dns-class",
            Self::Transfer => "dns-transfer",
            Self::MetaType => "dns-meta-type",
            Self::NoRecursion => "dns-no-recursion",
            Self::EdnsVersion => "dns-edns-version",
            Self::Short => "dns-short",
            Self::NotAQuery => "dns-not-a-query",
            Self::Rebinding => "dns-rebinding",
            Self::Mismatch => "dns-mismatch",
        }
    }

    /// What a response says of it beside its code (RFC 8914).
    pub(super) const fn extended_error(self) -> Option<ExtendedError> {
        match self {
            Self::Synthesized => Some(ExtendedError::Synthesized),
            Self::Unanswered => Some(ExtendedError::NoReachableAuthority),
            Self::NoUpstream => Some(ExtendedError::NotReady),
            Self::Bogus => Some(ExtendedError::Bogus),
            Self::BogusExpired => Some(ExtendedError::SignatureExpired),
            Self::BogusEarly => Some(ExtendedError::SignatureNotYetValid),
            Self::BogusUnsigned => Some(ExtendedError::SignaturesMissing),
            Self::Opcode | Self::Class | Self::Transfer | Self::MetaType => Some(ExtendedError::NotSupported),
            Self::NoRecursion => Some(ExtendedError::NotAuthoritative),
            Self::Rebinding => Some(ExtendedError::Blocked),
            Self::Forwarded
            | Self::NoAddress
            | Self::NotTranslatable
            | Self::Ipv4Only
            | Self::Local
            | Self::Reverse
            | Self::Malformed
            | Self::QuestionCount
            | Self::EdnsVersion
            | Self::Short
            | Self::NotAQuery
            | Self::Mismatch => None,
        }
    }

    /// Whether the message was dropped or refused, rather than answered.
    pub const fn is_refusal(self) -> bool {
        match self {
            Self::Forwarded
            | Self::Synthesized
            | Self::NoAddress
            | Self::NotTranslatable
            | Self::Ipv4Only
            | Self::Local
            | Self::Reverse
            | Self::Unanswered
            | Self::NoUpstream => false,
            Self::Bogus
            | Self::BogusExpired
            | Self::BogusEarly
            | Self::BogusUnsigned
            | Self::Malformed
            | Self::QuestionCount
            | Self::Opcode
            | Self::Class
            | Self::Transfer
            | Self::MetaType
            | Self::NoRecursion
            | Self::EdnsVersion
            | Self::Short
            | Self::NotAQuery
            | Self::Rebinding
            | Self::Mismatch => true,
        }
    }
}
