//! Cross-validation folds: groups stay whole, labels are spread evenly.
//!
//! An event and the outlets that tell it are one group. A model that is tested on a fold has seen nothing of its
//! groups, so that a score tells how it does on events that it has never seen.

use std::collections::BTreeMap;

/// For each row its fold, below `folds`. Groups are taken largest first (in an order that `seed` shuffles among
/// equals), and each goes where its labels are rarest so far. The result depends on nothing else.
#[must_use]
pub fn assign(labels: &[usize], groups: &[&str], folds: usize, seed: u64) -> Vec<usize> {
    let kinds = labels.iter().max().map_or(0, |label| label + 1);
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, group) in groups.iter().enumerate() {
        members.entry(group).or_default().push(row);
    }
    let mut order: Vec<(usize, u64, Vec<usize>)> =
        members.into_values().enumerate().map(|(at, rows)| (usize::MAX - rows.len(), scramble(seed ^ at as u64), rows)).collect();
    order.sort_unstable();
    let mut counts = vec![vec![0_usize; kinds]; folds];
    let mut sizes = vec![0_usize; folds];
    let mut assigned = vec![0; labels.len()];
    for (_, _, rows) in order {
        let load = |fold: usize| rows.iter().map(|row| counts[fold][labels[*row]]).sum::<usize>();
        let fold = (0..folds).min_by_key(|fold| (load(*fold), sizes[*fold], *fold)).unwrap_or(0);
        for row in rows {
            assigned[row] = fold;
            counts[fold][labels[row]] += 1;
            sizes[fold] += 1;
        }
    }
    assigned
}

/// A number that looks random but depends on nothing but `n` (SplitMix64; Steele, Lea & Flood 2014).
fn scramble(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_spread_evenly() {
        let labels: Vec<usize> = (0..100).map(|row| usize::from(row % 5 == 0)).collect();
        let names: Vec<String> = (0..100).map(|row| row.to_string()).collect();
        let groups: Vec<&str> = names.iter().map(String::as_str).collect();
        let folds = assign(&labels, &groups, 5, 0);
        for fold in 0..5 {
            let of = |label| (0..100).filter(|row| folds[*row] == fold && labels[*row] == label).count();
            assert_eq!((of(0), of(1)), (16, 4));
        }
        assert_ne!(folds, assign(&labels, &groups, 5, 1));
        assert_eq!(folds, assign(&labels, &groups, 5, 0));
    }

    #[test]
    fn a_group_stays_whole() {
        let labels = [0, 1, 2, 0, 1, 2, 0, 1, 2];
        let groups = ["a", "a", "a", "b", "b", "b", "c", "c", "c"];
        let folds = assign(&labels, &groups, 3, 0);
        for three in folds.chunks(3) {
            assert!(three.iter().all(|fold| *fold == three[0]));
        }
        let mut used: Vec<usize> = folds.chunks(3).map(|three| three[0]).collect();
        used.sort_unstable();
        assert_eq!(used, [0, 1, 2]);
    }
}
