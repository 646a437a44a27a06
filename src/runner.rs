//! Joins evaluation and engine: packing requests, running lanes, keeping records.
