//! `[console]`: what the console asks for before it changes anything.
use toml::Spanned;

use super::door::Errors;
use super::raw;
use super::scalar::{self, At};

/// What the console asks for before it changes anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    /// A password's hash as crypt(3) writes it; nothing is asked for where it is absent.
    pub password: Option<String>,
}

/// A hash as crypt(3) writes it: `$6$`, a salt, a digest of SHA-512.
const METHOD: &str = "$6$";
const DIGEST: usize = 86;

/// Checks that the password can be compared at all: a hash that never fits would lock everybody out.
pub(super) fn validate(raw: Option<Spanned<raw::Console>>, errors: &mut Errors) -> Console {
    let Some((text, span)) = raw.and_then(|raw| scalar::spanned(raw.into_inner().password)) else {
        return Console::default();
    };
    if !is_hash(&text) {
        scalar::unknown(At("console", "password"), "that text", span, errors);
    }
    Console { password: Some(text) }
}

fn is_hash(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(METHOD) else { return false };
    let parts: Vec<&str> = rest.split('$').collect();
    let (rounds, salt, digest) = match parts[..] {
        [salt, digest] => (None, salt, digest),
        [rounds, salt, digest] => (Some(rounds), salt, digest),
        _ => return false,
    };
    let rounds = rounds.is_none_or(|rounds| {
        let number = rounds.strip_prefix("rounds=").and_then(|number| number.parse::<u32>().ok());
        number.is_some_and(|number| (1_000..=1_000_000).contains(&number))
    });
    let letters = |text: &str| text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '/'));
    rounds && (1..=16).contains(&salt.len()) && letters(salt) && digest.len() == DIGEST && letters(digest)
}

#[cfg(test)]
mod tests {
    /// `openssl passwd -6 -salt sixgate sesame`
    const HASH: &str =
        "$6$sixgate$kOjc7Xe9LRnUEy/fRBXBoA.X8Avw8VHUIWIszppdniDX.PDGFEEpFkzhgsghGx/S3t.Cv5qdhX/Q37gICNImW.";

    fn password(text: &str) -> Result<Option<String>, String> {
        let file = format!("[wan]\ninterface = \"eth0\"\n[console]\npassword = \"{text}\"\n");
        let config = crate::config::parse(&file, "test.toml").map_err(|errors| errors.to_string())?;
        Ok(config.console.password)
    }

    #[test]
    fn a_hash_is_taken_and_a_plain_password_is_not() {
        assert_eq!(password(HASH), Ok(Some(HASH.to_owned())));
        assert!(password(&HASH.replace("$6$", "$6$rounds=5000$")).is_ok());
        for wrong in ["sesame", "", "$6$", "$1$sixgate$x", &HASH[..60], &HASH.replace("$6$", "$6$rounds=9$")] {
            let refused = password(wrong).unwrap_err();
            assert!(refused.contains("openssl passwd -6"), "{refused}");
        }
    }
}
