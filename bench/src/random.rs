//! Random order.
#![forbid(unsafe_code)]

use ringroad::base::Rng;

/// Any order is as likely as any other.
pub fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for last in (1..items.len()).rev() {
        let bound = u32::try_from(last + 1).expect("32 bits count whatever is shuffled here");
        items.swap(last, rng.below(bound) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_everything_and_moves_most_of_it() {
        let mut items: Vec<u32> = (0..1_000).collect();
        shuffle(&mut items, &mut Rng::new(7));
        let stayed = items.iter().zip(0..).filter(|&(&item, at)| item == at).count();
        assert!(stayed < 20, "{stayed} stayed");
        items.sort_unstable();
        assert!(items.into_iter().eq(0..1_000));
    }
}
