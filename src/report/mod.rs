//! Tables, charts and pages made from records; the only place that knows polars.
