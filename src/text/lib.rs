//! Text on its way into a model and out of it: [`tokenizer`] (text to ids and back) and [`chat`] (conversations to text, by the
//! model's own template), and what task files
//! of lm-evaluation-harness need of Python: [`template`] (its Jinja) and [`python`] (its texts of values, its regular
//! expressions). The only place that runs Jinja of strangers. Absent: reading vocabularies from files (see
//! `bitworth_quant::vocab`).

pub mod chat;
mod faults;
pub mod python;
pub mod template;
pub mod tokenizer;
