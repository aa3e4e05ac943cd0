//! Ranges of chunk indexes: what is missing, as `[first, last]` pairs.

/// The indexes of `0..count` that are not in `present`, as inclusive ranges in
/// ascending order. `present` is ascending; what lies outside of `0..count`
/// in it is passed over.
pub fn missing(present: impl IntoIterator<Item = u32>, count: u32) -> Vec<[u32; 2]> {
    let mut gaps = Vec::new();
    let mut next = 0u32;
    for index in present.into_iter().take_while(|&i| i < count) {
        if index > next {
            gaps.push([next, index - 1]);
        }
        next = next.max(index + 1);
    }
    if next < count {
        gaps.push([next, count - 1]);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_are_inclusive_and_ordered() {
        assert_eq!(missing([], 0), Vec::<[u32; 2]>::new());
        assert_eq!(missing([], 3), vec![[0, 2]]);
        assert_eq!(missing([0, 2, 3, 6], 8), vec![[1, 1], [4, 5], [7, 7]]);
        assert_eq!(missing(0..8, 8), Vec::<[u32; 2]>::new());
    }

    proptest! {
        #[test]
        fn present_and_missing_make_the_whole(present in prop::collection::btree_set(0u32..300, 0..200), count in 0u32..256) {
            let gaps = missing(present.iter().copied(), count);
            let absent: BTreeSet<u32> = gaps.iter().flat_map(|&[a, b]| a..=b).collect();
            let model: BTreeSet<u32> = (0..count).filter(|i| !present.contains(i)).collect();
            prop_assert_eq!(absent, model);
            // No two ranges touch: each gap is one pair.
            prop_assert!(gaps.windows(2).all(|w| w[0][1] + 1 < w[1][0]));
        }
    }
}
