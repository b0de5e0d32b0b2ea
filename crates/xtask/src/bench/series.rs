//! Several measurements of the same thing.

/// Values in the order in which they were measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(Vec<f64>);

impl Series {
    pub(super) fn new(values: Vec<f64>) -> Self {
        Self(values)
    }

    pub(super) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one, or the mean of the two in the middle; zero of nothing.
    pub(super) fn median(&self) -> f64 {
        let sorted = self.sorted();
        match (sorted.len(), sorted.len() / 2) {
            (0, _) => 0.0,
            (length, middle) if length % 2 == 1 => sorted[middle],
            (_, middle) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// What each is to its turn's other one.
    pub(super) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The least and the greatest.
    pub(super) fn spread(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0))
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(Series::new(vec![9.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Series::new(vec![4.0, 1.0, 2.0, 100.0]).median(), 3.0);
        assert_eq!(Series::default().median(), 0.0);
        assert_eq!(Series::new(vec![9.0, 1.0, 2.0]).spread(), (1.0, 9.0));
    }
}
