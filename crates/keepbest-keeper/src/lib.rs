//! Takes an evaluation of a snapshot, decides, saves, promotes, prunes. Knows no engine: any loop can use it.
