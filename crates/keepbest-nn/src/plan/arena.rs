//! Packing of regions with known lifetimes into one block of memory.
//!
//! Greedy by size: the largest region first, each at the lowest place that no region alive at the same time
//! takes (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", arXiv 2001.03288).

use std::ops::Range;

/// Regions start at multiples of this many floats: one cache line.
const ALIGNMENT: usize = 16;

/// A region of an [`ArenaBuilder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region(usize);

#[derive(Default)]
pub(super) struct ArenaBuilder {
    regions: Vec<Lifetime>,
}

struct Lifetime {
    len: usize,
    /// First and last time of use.
    used: Option<(usize, usize)>,
}

/// The place of each region.
pub(super) struct ArenaLayout {
    ranges: Vec<Range<usize>>,
}

impl ArenaBuilder {
    pub(super) fn region(&mut self, len: usize) -> Region {
        self.regions.push(Lifetime { len, used: None });
        Region(self.regions.len() - 1)
    }

    /// Says that the region's contents matter at `time`, and at all times between its uses.
    pub(super) fn use_at(&mut self, region: Region, time: usize) {
        let used = &mut self.regions[region.0].used;
        let (first, last) = used.unwrap_or((time, time));
        *used = Some((first.min(time), last.max(time)));
    }

    pub(super) fn place(self) -> ArenaLayout {
        let mut order: Vec<usize> = (0..self.regions.len())
            .filter(|&i| self.regions[i].len > 0)
            .collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(self.regions[i].len), i));
        let mut ranges = vec![0..0; self.regions.len()];
        let mut placed: Vec<usize> = vec![];
        for i in order {
            let Lifetime { len, used } = self.regions[i];
            let Some((first, last)) = used else { continue };
            let mut start = 0;
            // `placed` is sorted by start, so each gap is looked at once.
            for &other in &placed {
                let (a, b) = self.regions[other].used.expect("placed regions are used");
                if a > last || b < first {
                    continue;
                }
                let range: &Range<usize> = &ranges[other];
                if start + len <= range.start {
                    break;
                }
                start = start.max(range.end.next_multiple_of(ALIGNMENT));
            }
            ranges[i] = start..start + len;
            let at = placed.partition_point(|&p| ranges[p].start <= start);
            placed.insert(at, i);
        }
        ArenaLayout { ranges }
    }
}

impl ArenaLayout {
    pub(super) fn range(&self, region: Region) -> Range<usize> {
        self.ranges[region.0].clone()
    }

    /// Length of the whole arena.
    pub(super) fn len(&self) -> usize {
        self.ranges.iter().map(|r| r.end).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_alive_together_never_overlap_and_memory_is_shared() {
        // Lifetimes of a chain: each value lives from its layer to the next.
        let mut builder = ArenaBuilder::default();
        let lens = [100, 1000, 40, 700, 700, 3, 0, 512];
        let regions: Vec<Region> = lens.iter().map(|&len| builder.region(len)).collect();
        let uses = [
            (0, 1),
            (1, 2),
            (2, 3),
            (3, 6),
            (4, 5),
            (5, 6),
            (6, 7),
            (6, 8),
        ];
        for (region, (first, last)) in regions.iter().zip(uses) {
            builder.use_at(*region, last);
            builder.use_at(*region, first);
        }
        let layout = builder.place();
        for i in 0..lens.len() {
            assert_eq!(layout.range(regions[i]).len(), lens[i]);
            assert_eq!(layout.range(regions[i]).start % ALIGNMENT, 0);
            for j in 0..i {
                let together = uses[i].0 <= uses[j].1 && uses[j].0 <= uses[i].1;
                let (a, b) = (layout.range(regions[i]), layout.range(regions[j]));
                let apart = a.end <= b.start || b.end <= a.start || a.is_empty() || b.is_empty();
                assert!(apart || !together, "{i} and {j} overlap");
            }
        }
        assert!(layout.len() < lens.iter().sum::<usize>());
    }
}
