//! How large something is that differs from run to run.

/// The least and the greatest size that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    min: u64,
    max: u64,
}

impl Extent {
    /// How many times larger or smaller than any seen size another one may be.
    const FACTOR: u64 = 4;
    /// How much larger small sizes may be; far less than any error page.
    const SLACK: u64 = 16;

    pub(super) fn of(size: usize) -> Self {
        Self { min: size as u64, max: size as u64 }
    }

    pub(super) fn include(&mut self, size: usize) {
        self.join(Self::of(size));
    }

    /// Takes in what was seen of the same thing.
    pub(super) fn join(&mut self, other: Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Whether `size` is of the same order of magnitude. Nothing is, only where nothing was seen.
    pub(super) fn accepts(self, size: usize) -> bool {
        let size = size as u64;
        size.saturating_mul(Self::FACTOR) >= self.min && size <= self.max.saturating_mul(Self::FACTOR).saturating_add(Self::SLACK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_magnitude_counts() {
        let mut extent = Extent::of(100);
        extent.include(200);
        for (size, accepted) in [(0, false), (24, false), (25, true), (100, true), (816, true), (817, false)] {
            assert_eq!(extent.accepts(size), accepted, "{size}");
        }
        assert!(!Extent::of(1).accepts(0), "something became nothing");
        assert!(Extent::of(0).accepts(16) && !Extent::of(0).accepts(17));
        extent.join(Extent::of(250));
        assert_eq!(extent, Extent { min: 100, max: 250 });
        assert!(Extent { min: u64::MAX, max: u64::MAX }.accepts(usize::MAX));
    }
}
