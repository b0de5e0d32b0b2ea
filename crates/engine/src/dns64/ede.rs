//! Extended DNS errors (RFC 8914): one word more than the response code has room for.
use hickory_proto::op::Edns;
use hickory_proto::rr::rdata::opt::EdnsOption;

/// RFC 8914 section 2: the option's code.
pub(super) const OPTION: u8 = 15;

/// What a response says beside its code: RFC 8914 section 4 and the registry it made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtendedError {
    StaleAnswer,
    Bogus,
    SignatureExpired,
    SignatureNotYetValid,
    SignaturesMissing,
    NotReady,
    Blocked,
    NotAuthoritative,
    NotSupported,
    NoReachableAuthority,
    Synthesized,
}

impl ExtendedError {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::StaleAnswer => 3,
            Self::Bogus => 6,
            Self::SignatureExpired => 7,
            Self::SignatureNotYetValid => 8,
            Self::SignaturesMissing => 10,
            Self::NotReady => 14,
            Self::Blocked => 15,
            Self::NotAuthoritative => 20,
            Self::NotSupported => 21,
            Self::NoReachableAuthority => 22,
            Self::Synthesized => 29,
        }
    }

    /// Adds it to an OPT record.
    pub(super) fn put(self, edns: &mut Edns) {
        edns.options_mut().insert(EdnsOption::Unknown(OPTION.into(), vec![0, self.code()]));
    }
}
