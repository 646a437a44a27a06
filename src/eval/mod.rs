//! Asking and judging: requests, records, task kinds, statistics. Pure: no device, no clock, no terminal.
