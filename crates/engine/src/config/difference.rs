//! What changed between two configurations, line by line, for the history of configurations.
use core::fmt::Write;

/// Beyond so many comparisons the changed part counts as replaced as a whole: 2,000 lines against 2,000.
const MOST_COMPARISONS: usize = 4_000_000;
/// Beyond so many bytes a difference is cut: it is for people.
const LONGEST: usize = 32 << 10;

/// Lines that went and came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Lines that came.
    pub added: usize,
    /// Lines that went.
    pub removed: usize,
    /// `line N:` and below it the lines that went (`-`) and came (`+`), for each place.
    pub text: String,
}

impl Difference {
    /// The difference between two texts.
    pub fn between(old: &str, new: &str) -> Self {
        let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
        let same = |(a, b): &(&&str, &&str)| a == b;
        let head = old.iter().zip(&new).take_while(same).count();
        let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(same).count();
        let (gone, come) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
        let mut difference = Self::default();
        let mut place = Place { old: head, new: head, open: false };
        for kept in common(gone, come) {
            while place.old < head + kept.0 {
                difference.note(&mut place, '-', &old);
            }
            while place.new < head + kept.1 {
                difference.note(&mut place, '+', &new);
            }
            place = Place { old: place.old + 1, new: place.new + 1, open: false };
        }
        while place.old < head + gone.len() {
            difference.note(&mut place, '-', &old);
        }
        while place.new < head + come.len() {
            difference.note(&mut place, '+', &new);
        }
        difference
    }

    fn note(&mut self, place: &mut Place, sign: char, lines: &[&str]) {
        let (at, count) =
            if sign == '-' { (&mut place.old, &mut self.removed) } else { (&mut place.new, &mut self.added) };
        *count += 1;
        let line = lines.get(*at).copied().unwrap_or_default();
        *at += 1;
        if self.text.len() > LONGEST {
            return;
        }
        // Writing to a String does not fail.
        if !place.open {
            let _ = writeln!(self.text, "line {}:", place.new + usize::from(sign == '-'));
            place.open = true;
        }
        let _ = writeln!(self.text, "{sign} {line}");
        if self.text.len() > LONGEST {
            let _ = writeln!(self.text, "and more");
        }
    }
}

/// Where both texts have been read up to.
struct Place {
    old: usize,
    new: usize,
    /// Whether the line number of the change at hand has been written.
    open: bool,
}

/// Pairs of indices of a longest common subsequence.
fn common(old: &[&str], new: &[&str]) -> Vec<(usize, usize)> {
    if old.len().saturating_mul(new.len()) > MOST_COMPARISONS {
        return Vec::new();
    }
    let width = new.len() + 1;
    // At [i][j]: the length for what begins at line i of the old and line j of the new text.
    let mut lengths = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i * width + j] = if old[i] == new[j] {
                lengths[(i + 1) * width + j + 1] + 1
            } else {
                lengths[(i + 1) * width + j].max(lengths[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut pairs = Vec::new();
    while i < old.len() && j < new.len() {
        if old[i] == new[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_that_went_and_came_are_named_at_their_place() {
        let difference = Difference::between("a\nb\nc\nd\n", "a\nx\nc\nd\ne\n");
        assert_eq!(difference.text, "line 2:\n- b\n+ x\nline 5:\n+ e\n");
        assert_eq!((difference.added, difference.removed), (2, 1));
        assert_eq!(Difference::between("same\n", "same\n"), Difference::default());
    }

    #[test]
    fn a_difference_too_large_to_show_is_cut_and_still_counted() {
        let long = |word: &str| (0..5_000).map(|line| format!("{word} {line}\n")).collect::<String>();
        let difference = Difference::between(&long("old"), &long("new"));
        assert_eq!((difference.added, difference.removed), (5_000, 5_000));
        assert!(difference.text.len() < LONGEST + 100 && difference.text.ends_with("and more\n"));
    }

    proptest! {
        /// The counts are those of the lines, whatever the texts are.
        #[test]
        fn old_without_what_went_is_new_without_what_came(old in "([ab]\n){0,12}", new in "([ab]\n){0,12}") {
            let difference = Difference::between(&old, &new);
            let left = |text: &str, gone: usize| text.lines().count() - gone;
            prop_assert_eq!(left(&old, difference.removed), left(&new, difference.added));
            let shown = |sign| difference.text.lines().filter(|line| line.starts_with(sign)).count();
            prop_assert_eq!((shown('+'), shown('-')), (difference.added, difference.removed));
        }
    }
}
