//! A finished response in its parts, for whoever puts it together below the sockets: the same bytes as [`Answer::write`] makes.
use super::Answer;
use crate::dns64::ede;
use crate::dns64::request::{HEADER_LENGTH, MAX_UDP_PAYLOAD, PLAIN_PAYLOAD};

/// An OPT record with an extended error.
const OPT: usize = 17;

/// The parts of a response that fits every client's payload size.
#[derive(Debug)]
pub struct Finished<'a> {
    /// The name in lower case, as it stands in a message.
    pub name: &'a [u8],
    /// The type as it stands in a message.
    pub kind: [u8; 2],
    /// Which view it is for, as [`super::super::View::number`] has it.
    pub view: u8,
    /// The header, without an identifier; AD is for who asks for it.
    pub header: [u8; HEADER_LENGTH],
    /// What follows the question, but for the OPT record.
    pub records: &'a [u8],
    /// Where the TTLs lie in the message.
    pub ttls: &'a [[u8; 2]],
    /// Whether addresses in it were synthesized.
    pub is_synthesized: bool,
    /// When it was made, in seconds of the engine's clock.
    pub stored: u32,
    /// Until when it needs nobody's attention, in the same.
    pub until: u32,
    opt: ([u8; OPT], usize),
}

impl Finished<'_> {
    /// The OPT record, for who has sent one.
    pub fn opt(&self) -> &[u8] {
        self.opt.0.get(..self.opt.1).unwrap_or_default()
    }
}

impl Answer {
    /// Its parts. Nothing where it is not an answer like any other: for DO or CD, stale, a failure, or so long that some client has
    /// to be told so.
    pub fn finished(&self) -> Option<Finished<'_>> {
        let (end, question_end) = (usize::from(self.end), usize::from(self.question_end));
        if self.tag & 3 != 0 || self.stale || self.is_failure() || end + OPT > usize::from(PLAIN_PAYLOAD) {
            return None;
        }
        let (name, kind) = self.question().split_last_chunk::<2>()?;
        let mut opt = [0; OPT];
        let [high, low] = MAX_UDP_PAYLOAD.to_be_bytes();
        opt[2..5].copy_from_slice(&[41, high, low]);
        let mut length = OPT - 6;
        if let Some(error) = self.extended_error {
            opt[10] = 6;
            opt[11..].copy_from_slice(&[0, ede::OPTION, 0, 2, 0, error.code()]);
            length = OPT;
        }
        Some(Finished {
            name,
            kind: *kind,
            view: self.tag >> 2,
            header: *self.bytes.first_chunk()?,
            records: self.bytes.get(question_end..end)?,
            ttls: self.bytes.get(end..)?.as_chunks().0,
            is_synthesized: self.synthesized,
            stored: self.stored,
            until: self.stored.saturating_add(self.lifetime - self.lifetime / 10),
            opt: (opt, length),
        })
    }
}
