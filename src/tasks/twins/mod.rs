//! Twins: what Python functions of lm-evaluation-harness's task files do, written in Rust. One table, keyed by
//! `folder/module.function`, with the SHA-256 of the modules that a twin was written after: a module that lies beside the task
//! file with another hash may do something else, so its functions are refused. Nothing is guessed and no Python is run.
//!
//! To add one: the function in the file of its family, and a row in [`TWINS`].

mod bbh;
mod choice;
mod docs;
pub mod ifeval;
mod math;
mod module;
mod reading;
mod results;
mod rolling;
mod spans;
mod subjects;

use bitworth_quant::hex::hex;
use bitworth_quant::message::Message;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sha2::{Digest, Sha256};

pub use module::Module;

use crate::files::source::is_inside;
use crate::files::yaml::Function;
use crate::filters::Make;
use crate::metrics::classes;
use crate::rows::{DataRow, Docs};

/// A figure of a document, under the name of its metric.
pub type Figures = Vec<(String, Value)>;

/// Makes a question, an answer or the choices of a document.
pub type MakeField = Box<dyn Fn(&DataRow) -> Result<Value, Message> + Send + Sync>;

/// What a Python function does.
#[derive(Clone, Copy)]
pub enum Twin {
    /// Makes documents of rows; the text is what `*` stands for in the function's name.
    Docs(fn(&Docs, &str) -> Result<Docs, Message>),
    /// Makes a question, an answer or the choices of a document.
    Field(fn(&DataRow) -> Result<Value, Message>),
    /// The same with texts that stand in the function's module.
    FieldOf(fn(&Module) -> Result<MakeField, Message>),
    /// Makes documents of rows with texts that stand in the function's module.
    DocsOf(fn(&Module, &Docs) -> Result<Docs, Message>),
    /// Judges the filtered answers to a document's requests.
    Results(fn(&DataRow, &[Value]) -> Result<Figures, Message>),
    /// Makes one figure of all documents' figures.
    Aggregation(fn(&[Value]) -> Result<f64, Message>),
    /// A step of a filter with these options.
    Filter(Make),
}

/// A row of the table.
pub struct TwinEntry {
    /// `folder/module.function` with `/` between folders; `*` stands for any text without `/`.
    pub key: &'static str,
    /// The modules that it was written after.
    pub sha256: &'static [&'static str],
    /// Modules beside it that it takes functions of, and their hashes.
    pub beside: Beside,
    /// What it does.
    pub twin: Twin,
}

/// Names of modules and the hashes that each may have.
type Beside = &'static [(&'static str, &'static [&'static str])];

const fn twin(key: &'static str, sha256: &'static [&'static str], twin: Twin) -> TwinEntry {
    TwinEntry { key, sha256, beside: &[], twin }
}

const HELLASWAG: &[&str] = &["07d23b60b28f2a4f658dcf8440623a63fe6644854ce9b846a114dde980dc1214"];
const WINOGRANDE: &[&str] = &["e55327629264a98f1d383fda24645b6779afb53fa0bce2150042b9416b1ae006"];
const COPA: &[&str] = &["0be98a907db647a518c42c916a61385b64f394cf9d0171b5cb86b7a036282de7"];
const WIKITEXT: &[&str] = &["a44020374b172159bf5be80a64d2c4194c9d5c77284f696ac666361338c8da7d"];
const C4: &[&str] = &["95b94cddb9ed50a3db87806698146cb2b9a4a67235291c40bca18a20d49eb87b"];
const RACE: &[&str] = &["15778ab69ca3b96c3d82618500ad59702ff7ea9dbf09e90e4505abc16ac53ad0"];
const TRUTHFULQA: &[&str] = &["d3c827d1e2cd442a1e4738b527a18effd48cbb2aed478c12a652311b5ea4dbc8"];
const MUSR: &[&str] = &["9da42ec170310d8eaac3964994eb02d150e52e0f4514553e395c2a3174c25dd4"];
const MMLU_PRO_CHOICE: &[&str] = &["49a014c4dc39902071760182858e6b4d42aaaa917a440e71a165bdff75085487"];
const MMLU_PRO: &[&str] = &["d47eae06ecf1e9535b033394de62185327a1dca977cb29049003699adeb92801"];
const BBH: &[&str] = &["ecc017c5c3c0a03757d94072fb74feac74406b63d2f6efa6ec68f73f8db8a9fd"];
const BIGBENCH: &[&str] = &["ffe5920d8ee35daa9271be669629b928a76ac82ede88bdb21683c56785efa474"];
const GLOBAL_MMLU: &[&str] = &["b4012dd2b1a508885d23ee2ddb12bc26f3e622081ba41ec1ab766edc31a4982b"];
const GLOBAL_MMLU_LITE: &[&str] = &["9776c2ffc09ae0569d2cea41856f7a9c712a38362c8ea33ac61239005062df0f"];
const OPENAI_MMMLU: &[&str] = &["49aaaf0034ee7413385b68533fa22f5d664dc4c97f814985c353156f6ad6a85d"];
const INCLUDE: &[&str] = &["280dbae55143a4d1be55783551e7d508b01a0d840066e5d5f3b9b6ae40966477"];
const MMLUSR: &[&str] = &["f28cc8d405c54ca83e339e3c6deebad195688d8788dbaf511a00c8ebee7f16f5"];
const GPQA_PLAIN: &[&str] = &["7c755f2c3f8f4ac20de96fb68941c43424d2ded0552d5ab81e672e15c410655c"];
const GPQA_LIST: &[&str] = &["b603828710f1fb3e1b8fe42726b188544ef8dbd12d25f4ca676e42ca4d1a251b"];
const GPQA_BRACKETS: &[&str] = &["21901ae19d06c75c1490026f98be390e8b522b1d0d7cdce4f77740b344072883"];
const MMLU_PROX: &[&str] = &["cfb27b5b32d75fccf7745e19b4b96668856b5a7c44e7e7a4533854e19e6ac5e1"];
const MMLU_PROX_BESIDE: Beside = &[("../lang_libs", &["582a892b4e8419c16384552b369d7ba828418c57768ccdd82d61172116b3da55"])];
const LLAMA_DE: &[&str] = &["dda88dd84883bc5ca021dbc243d852c0676d861c334b29bf727ceae28042f8ec"];
const LLAMA_ES: &[&str] = &["158bc3053efb54cf56fa8e65004a547d4e33df5352ed214822d6a5830a76e71a"];
const LLAMA_FR: &[&str] = &["22cd22866cf35c164df9b64dce59f448e6c8a44899f12bbdd2de9297203171f4"];
const LLAMA_HI: &[&str] = &["58142960109ac3c7dfec0167bffe1a4cda5b773bc01b5530d61f959f740f41a5"];
const LLAMA_IT: &[&str] = &["9e11710d3d95fe8debee8835db50993a0dbb8ebad966aac54a473eb9514a775c"];
const LLAMA_PT: &[&str] = &["50e74c808630015bbdc7bda1e2de4bcc7a52a863f58c14b7b01a621c6939aed8"];
const LLAMA_TH: &[&str] = &["eae32645e56c57e8a8b963e95b14d1a4b66277b5514a04f33e0a3bbb39267856"];
const AFRIXNLI_ENTAILMENT: &[&str] = &[
    "82505ac03d1c56cbf95d7302fc488e3d37626403beb03955218e12ed1464e587",
    "da353b79ae670e9dfdabfb072ca091751216dfd7a13e696cb79ab7e8bb35f5b1",
    "e31e27913231afd0a270429d0089b06d16d684f1d34714e67a67888da770614e",
];
const AFRIXNLI_NEITHER: &[&str] = &["c1cfe92751ffca6e996433908d6fd81b44e61a6fd772365f59615da26927194f"];
const AFRIXNLI_INCONCLUSIVE: &[&str] = &["5333bec1a17f37cf348522c35f09f277a484729752f0f5fa299b9e4b14fbca0e"];
const AFRIMMLU: &[&str] = &[
    "6833aa79ec6cca6a76d3790e1d3c4bd027bad853b9134f9e34fb7db6a5654198",
    "b149ff77bb096680405f65efc85a7201c90356c05290f7a11ae08c9a3768fac6",
    "f73ebd32b66b88605140d9383022ebda5b763cc786996655ed1b8f56ac99e681",
    "5f0502a69ad406d86f3a61b02f2f19a7229ed219b9e37a1bc9798ef9582e22f7",
    "5433c39afd47fb50b363de7b5a1a2f975ee08b9aa36b21a837b866d723941a2e",
    "7c3e94328c3607c9c6d9afab91bd003f23fa74410109700c71b921825ccc0dd8",
    "67998331d95278d97fbc01bf211201a6f4a9fff3c4199e9216e01bc4aebcb387",
];
const ARABIC_AVCA: &[&str] = &["fd570dcffc004b617a83a50ac2f2804709e5a31ff810ded108fd2f04ae449651"];
const ARABIC_MMLU: &[&str] = &["c703900f5a6f700cd19d2773c3bc8b16420848d6a502fbbb2d8bd1157dafc55d"];
const ARABIC_MT: &[&str] = &["679f4a5a831647afec370dac707cfd065ca225079427e78232458f4bbe8d02b8"];
const OKAPI_ARC: &[&str] = &["928f11eec23acc717775f156d8a308cc26dd623f54e91eb6bda3da09ca9e3281"];
const OKAPI_TRUTHFULQA: &[&str] = &["53748c0c6a434a352efacb3604b3d0c15e7853344b17cd92abc2e158b664d11e"];
const TMMLUPLUS: &[&str] = &["9907be363638a9b63b59829354de626d6d1310caff80ecfbf400fcb08973ac1f"];
const TMLU: &[&str] = &["a3b885e9735f861776ca5bbee5f06d95ecad98cf11df1cf4bbe7fd457afffdbc"];
const EUS_EXAMS: &[&str] = &["4ff455d4899e2ab9e755e35cda767c6dd70bc9554f673496b52233c134b60d6c"];
const ARITHMETIC: &[&str] = &["55c93da7005300ce496a18bce8251febab8acd36b8c4d8875679ff432c2031f9"];
const GREEKMMLU: &[&str] = &["6185189b264bea9a525d5d32bf368c824bd0bc23f2c4479362a56e95e8e9205a"];
const DARIJAMMLU: &[&str] = &["0ffeb8e657558aa12e9088db09cc45163fab29897cd265fef5d2bfdd0dd2070c"];
const EGYMMLU: &[&str] = &["2dec115fb947c8874d870a9b8335dccfaabee3f3ca932c964202645f39b1d668"];
const ARABICMMLU: &[&str] = &["a7ca604ad965d1e75f493f2be038f07a134bf52234268368abf1c31358f6b95d"];

const ARADICE: &[&str] = &["47597e2fd7dfb2734b5b709dd66c81547d108e32262bada950536c60f84a0c44"];
const ARADICE_MMLU: &[&str] = &[
    "bbac22f361720e40e10aad8ceb4e3dd49e224057bb217872a78390eed4097d74",
    "b1e203fdca2829e785150d2483a3ac3cc5d7004aa4044cea3afaf0d94d9cca59",
];
const MASAKHANER: &[&str] = &["289219763bb297fa5396c816a5ba412ddc0b9c502469ef927fd4aa49d2099c8b"];
const PALOMA: &[&str] = &["975344e671c75aa5fe79948a68c04eb6eed4f261cf3d4d6eed55789c3870e1ec"];
const HENDRYCKS: &[&str] = &["8332e42f23c62043b23d74ee6d3934f997b209cd60a1ad45b7882d6b00929d5c"];
const IFEVAL: &[&str] = &["1ab8f14808c826f93f2364883487ed63cf4267980bf4761fda8053899c013632"];
/// The leaderboard's copies are older ones that nothing takes: its module is the other folder's, and takes what lies there.
const IFEVAL_BESIDE: Beside = &[
    (
        "instructions",
        &[
            "511cc41a53787d818c292d8335c8e98aa833296a0789ac470db56bcd6496345e",
            "2d9670e538e6201665363b9db156fb2c27016b9287eb9790ea55d3520036bb00",
        ],
    ),
    ("instructions_registry", &["9db1c062cdb70a91420d3789a588235a1064c2b9a1a66e09e5fb9df9e7584a6c"]),
    (
        "instructions_util",
        &[
            "e8c4d9187bac1482d93941fb46469609c3ae78d896195bfcb300a0707d492567",
            "61a5b79dba2c8188ca5447aa5e71a66d8aa2381634bd58673c87fdb2cb42dfd4",
        ],
    ),
];
const DROP: &[&str] = &["a5782ee7d2e537968a5b83976195ae2b9b6e2a565a0bfb5c24d221b4d61a04f5"];
const COQA: &[&str] = &["62ac82e8027162d134709355a00526ff5497deb5987beebb18b439b320e860ca"];
/// Modules that take lm-evaluation-harness's own function of this name.
const WEIGHTED_F1: &[&str] = &[
    "289219763bb297fa5396c816a5ba412ddc0b9c502469ef927fd4aa49d2099c8b",
    "52dbbf7f9bf91302d3a9d2c9e3be9a1bedc59411ecb0fcea51f132afd8b06271",
    "5333bec1a17f37cf348522c35f09f277a484729752f0f5fa299b9e4b14fbca0e",
    "5433c39afd47fb50b363de7b5a1a2f975ee08b9aa36b21a837b866d723941a2e",
    "5f0502a69ad406d86f3a61b02f2f19a7229ed219b9e37a1bc9798ef9582e22f7",
    "67998331d95278d97fbc01bf211201a6f4a9fff3c4199e9216e01bc4aebcb387",
    "6833aa79ec6cca6a76d3790e1d3c4bd027bad853b9134f9e34fb7db6a5654198",
    "7c3e94328c3607c9c6d9afab91bd003f23fa74410109700c71b921825ccc0dd8",
    "82505ac03d1c56cbf95d7302fc488e3d37626403beb03955218e12ed1464e587",
    "b149ff77bb096680405f65efc85a7201c90356c05290f7a11ae08c9a3768fac6",
    "c1cfe92751ffca6e996433908d6fd81b44e61a6fd772365f59615da26927194f",
    "d0ebb65512d9f552ee9f17478ea3cba40d3c31fc785248ef4a6525fdf18d73be",
    "da353b79ae670e9dfdabfb072ca091751216dfd7a13e696cb79ab7e8bb35f5b1",
    "e31e27913231afd0a270429d0089b06d16d684f1d34714e67a67888da770614e",
    "f73ebd32b66b88605140d9383022ebda5b763cc786996655ed1b8f56ac99e681",
    "fb789ae12f525b5084b11b2a9c276d9769136dc1efd3faeac95124e0bf600b0a",
];

/// Every twin.
pub const TWINS: &[TwinEntry] = &[
    twin("hellaswag/utils.process_docs", HELLASWAG, Twin::Docs(choice::hellaswag)),
    twin("winogrande/preprocess_winogrande.doc_to_text", WINOGRANDE, Twin::Field(choice::winogrande_text)),
    twin("winogrande/preprocess_winogrande.doc_to_target", WINOGRANDE, Twin::Field(choice::winogrande_target)),
    twin("winogrande/preprocess_winogrande.doc_to_choice", WINOGRANDE, Twin::Field(choice::winogrande_choice)),
    twin("super_glue/copa/utils.doc_to_text", COPA, Twin::Field(choice::copa_text)),
    twin("super_glue/copa/utils.doc_to_target", COPA, Twin::Field(choice::copa_target)),
    twin("super_glue/copa/utils.doc_to_choice", COPA, Twin::Field(choice::copa_choice)),
    twin("race/preprocess_race.doc_to_text", RACE, Twin::Field(choice::race_text)),
    twin("race/preprocess_race.doc_to_target", RACE, Twin::Field(choice::race_target)),
    twin("race/preprocess_race.doc_to_choice", RACE, Twin::Field(choice::race_choice)),
    twin("leaderboard/musr/utils.doc_to_text", MUSR, Twin::Field(choice::musr_text)),
    twin("leaderboard/musr/utils.doc_to_choice", MUSR, Twin::Field(choice::musr_choice)),
    twin("leaderboard/mmlu_pro/utils.doc_to_text", MMLU_PRO_CHOICE, Twin::Field(choice::mmlu_pro_letters_text)),
    twin("leaderboard/mmlu_pro/utils.doc_to_choice", MMLU_PRO_CHOICE, Twin::Field(choice::mmlu_pro_letters)),
    twin("mmlu_pro/utils.doc_to_text", MMLU_PRO, Twin::Field(choice::mmlu_pro_text)),
    twin("mmlu_pro/utils.fewshot_to_text", MMLU_PRO, Twin::Field(choice::mmlu_pro_text)),
    twin("mmlu_pro/utils.fewshot_to_target", MMLU_PRO, Twin::Field(choice::mmlu_pro_shot_target)),
    twin("mmlu_pro/utils.process_*", MMLU_PRO, Twin::Docs(docs::mmlu_pro_category)),
    twin("bigbench/utils.filter_multiple_choice", BIGBENCH, Twin::Docs(docs::bigbench_with_choices)),
    twin("global_mmlu/full/*/utils.process_*", GLOBAL_MMLU, Twin::Docs(docs::global_mmlu_subject)),
    twin("global_mmlu/default/*/utils.process_*", GLOBAL_MMLU_LITE, Twin::Docs(docs::global_mmlu_category)),
    twin("openai-mmmlu/default/utils.process_*", OPENAI_MMMLU, Twin::Docs(docs::mmmlu_subject)),
    twin("include/*/*/utils.process_*", INCLUDE, Twin::Docs(docs::include_domain)),
    twin("mmlusr/*/utils.process_docs", MMLUSR, Twin::Docs(docs::mmlusr)),
    twin("gpqa/zeroshot/utils.process_docs", GPQA_PLAIN, Twin::Docs(choice::gpqa_plain)),
    twin("gpqa/*/utils.process_docs", GPQA_LIST, Twin::Docs(choice::gpqa_list)),
    twin("leaderboard/gpqa/utils.process_docs", GPQA_BRACKETS, Twin::Docs(choice::gpqa_brackets)),
    twin("wikitext/preprocess_wikitext.wikitext_detokenizer", WIKITEXT, Twin::Field(rolling::wikitext_text)),
    twin("wikitext/preprocess_wikitext.process_results", WIKITEXT, Twin::Results(rolling::wikitext_results)),
    twin("c4/preprocess_c4.c4_detokenizer", C4, Twin::Field(rolling::c4_text)),
    twin("c4/preprocess_c4.process_results", C4, Twin::Results(rolling::c4_results)),
    twin("truthfulqa/utils.process_results_mc2", TRUTHFULQA, Twin::Results(results::truthfulqa_mc2)),
    twin("hendrycks_math/utils.process_docs", HENDRYCKS, Twin::Docs(math::hendrycks_docs)),
    twin("hendrycks_math/utils.process_results", HENDRYCKS, Twin::Results(math::hendrycks_results)),
    twin("drop/utils.process_docs", DROP, Twin::Docs(reading::drop_docs)),
    twin("drop/utils.process_results", DROP, Twin::Results(reading::drop_results)),
    twin("coqa/utils.doc_to_text", COQA, Twin::Field(reading::coqa_text)),
    twin("coqa/utils.doc_to_target", COQA, Twin::Field(reading::coqa_target)),
    twin("coqa/utils.process_results", COQA, Twin::Results(reading::coqa_results)),
    TwinEntry {
        key: "mmlu_prox/*/utils.doc_to_text",
        sha256: MMLU_PROX,
        beside: MMLU_PROX_BESIDE,
        twin: Twin::FieldOf(subjects::mmlu_prox_question),
    },
    TwinEntry {
        key: "mmlu_prox/*/utils.fewshot_to_text",
        sha256: MMLU_PROX,
        beside: MMLU_PROX_BESIDE,
        twin: Twin::FieldOf(subjects::mmlu_prox_shot),
    },
    twin("mmlu_prox/*/utils.process_*", MMLU_PROX, Twin::Docs(docs::mmlu_prox_category)),
    twin("llama3/instruct/mmlu_de/utils.process_docs_*", LLAMA_DE, Twin::Docs(|docs, task| docs::llama_mmlu(docs, "de", task))),
    twin("llama3/instruct/mmlu_es/utils.process_docs_*", LLAMA_ES, Twin::Docs(|docs, task| docs::llama_mmlu(docs, "es", task))),
    twin("llama3/instruct/mmlu_fr/utils.process_docs_*", LLAMA_FR, Twin::Docs(|docs, task| docs::llama_mmlu(docs, "fr", task))),
    twin("llama3/instruct/mmlu_hi/utils.process_docs_*", LLAMA_HI, Twin::Docs(|docs, task| docs::llama_mmlu(docs, "hi", task))),
    twin("llama3/instruct/mmlu_it/utils.process_docs_*", LLAMA_IT, Twin::Docs(|docs, task| docs::llama_mmlu(docs, "it", task))),
    twin("llama3/instruct/mmlu_pt/utils.process_docs_*", LLAMA_PT, Twin::Docs(|docs, task| docs::llama_mmlu(docs, "pt", task))),
    twin("llama3/instruct/mmlu_th/utils.process_docs_*", LLAMA_TH, Twin::Docs(|docs, task| docs::llama_mmlu(docs, "th", task))),
    twin("afrixnli/*/prompt_1/utils.doc_to_target", AFRIXNLI_ENTAILMENT, Twin::Field(subjects::entailment)),
    twin("afrixnli/*/prompt_2/utils.doc_to_target", AFRIXNLI_NEITHER, Twin::Field(subjects::neither)),
    twin("afrixnli/*/prompt_5/utils.doc_to_target", AFRIXNLI_INCONCLUSIVE, Twin::Field(subjects::inconclusive)),
    twin("afrixnli/*/prompt_1/utils.doc_to_text", AFRIXNLI_ENTAILMENT, Twin::FieldOf(subjects::afrixnli_text)),
    twin("afrimmlu/*/*/utils.doc_to_text", AFRIMMLU, Twin::FieldOf(subjects::afrimmlu_text)),
    twin("afrimmlu/*/*/utils.doc_to_choice", AFRIMMLU, Twin::Field(subjects::afrimmlu_choice)),
    twin("arabic_leaderboard_*/arabic_leaderboard_avca*/utils.process_docs", ARABIC_AVCA, Twin::DocsOf(subjects::avca)),
    twin(
        "arabic_leaderboard_*/arabic_leaderboard_arabic_mmlu*/utils.process_docs",
        ARABIC_MMLU,
        Twin::DocsOf(subjects::arabic_mmlu),
    ),
    twin(
        "arabic_leaderboard_*/arabic_leaderboard_arabic_mt_mmlu*/utils.process_docs",
        ARABIC_MT,
        Twin::DocsOf(subjects::arabic_mt),
    ),
    twin("okapi/arc_multilingual/utils.process_docs", OKAPI_ARC, Twin::Docs(choice::okapi_arc)),
    twin("okapi/truthfulqa_multilingual/utils.process_docs", OKAPI_TRUTHFULQA, Twin::DocsOf(choice::okapi_truthfulqa)),
    twin("okapi/truthfulqa_multilingual/utils.process_results_mc2", OKAPI_TRUTHFULQA, Twin::Results(results::truthfulqa_mc2)),
    twin("tmmluplus/default/utils.process_docs", TMMLUPLUS, Twin::Docs(docs::tmmluplus)),
    twin("tmlu/default/utils.process_docs", TMLU, Twin::Docs(docs::tmlu)),
    twin("eus_exams/utils.process_docs", EUS_EXAMS, Twin::Docs(docs::eus_exams)),
    twin("arithmetic/utils.process_docs", ARITHMETIC, Twin::Docs(docs::arithmetic)),
    twin("greekmmlu/utils.doc_to_text", GREEKMMLU, Twin::FieldOf(subjects::greek_text)),
    twin("greekmmlu/utils.doc_to_choice", GREEKMMLU, Twin::FieldOf(subjects::greek_choice)),
    twin("darijammlu/utils.doc_to_text", DARIJAMMLU, Twin::FieldOf(subjects::darija_text)),
    twin("darijammlu/utils.doc_to_choice", DARIJAMMLU, Twin::Field(subjects::letters)),
    twin("egymmlu/utils.doc_to_text", EGYMMLU, Twin::FieldOf(subjects::egyptian_text)),
    twin("egymmlu/utils.doc_to_choice", EGYMMLU, Twin::Field(subjects::letters)),
    twin("arabicmmlu/utils.doc_to_text", ARABICMMLU, Twin::FieldOf(subjects::arabicmmlu_text)),
    twin("arabicmmlu/utils.doc_to_choice", ARABICMMLU, Twin::Field(subjects::arabicmmlu_choice)),
    twin("afrobench/masakhaner/*/utils.span_f1_agg", MASAKHANER, Twin::Aggregation(spans::span_f1)),
    twin("aradice/ArabicMMLU/*/utils.process_docs", ARADICE_MMLU, Twin::DocsOf(subjects::aradice_mmlu)),
    twin("aradice/*/metrics.micro_f1_score", ARADICE, Twin::Aggregation(classes::micro_f1)),
    twin("aradice/*/*/metrics.micro_f1_score", ARADICE, Twin::Aggregation(classes::micro_f1)),
    twin("aradice/winogrande/utils.doc_to_text", WINOGRANDE, Twin::Field(choice::winogrande_text)),
    twin("aradice/winogrande/utils.doc_to_target", WINOGRANDE, Twin::Field(choice::winogrande_target)),
    twin("aradice/winogrande/utils.doc_to_choice", WINOGRANDE, Twin::Field(choice::winogrande_choice)),
    twin("paloma/paloma_utils.doc_to_target", PALOMA, Twin::Field(rolling::paloma_text)),
    twin("*/utils.weighted_f1_score", WEIGHTED_F1, Twin::Aggregation(classes::weighted_f1)),
    TwinEntry {
        key: "ifeval/utils.process_results",
        sha256: IFEVAL,
        beside: IFEVAL_BESIDE,
        twin: Twin::Results(ifeval::results),
    },
    twin("ifeval/utils.agg_inst_level_acc", IFEVAL, Twin::Aggregation(ifeval::share)),
    twin("bbh/*/utils.MultiChoiceRegexFilter", BBH, Twin::Filter(bbh::multi_choice)),
    twin("bbh/*/utils.MapRegexFilter", BBH, Twin::Filter(bbh::map)),
    twin("bbh/*/utils.NumberParseRegexFilter", BBH, Twin::Filter(bbh::number_parse)),
    twin("bbh/*/utils.WordSortFilter", BBH, Twin::Filter(bbh::word_sort)),
];

/// Why there is no twin of a function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTwin {
    /// Nobody has written one.
    #[error("the Python function {0} has no twin here, and no Python is run")]
    Missing(String),
    /// The module is another one than the twin was written after.
    #[error(
        "the Python function {name} has a twin here, but {} has another content (SHA-256 {hash}) than the module it was written \
         after; what it does is not known", path.display()
    )]
    Changed {
        /// The function.
        name: String,
        /// The module.
        path: PathBuf,
        /// Its hash.
        hash: String,
    },
    /// The module is a link out of the task file's folder.
    #[error("the module {} of the Python function {name} leads out of the task file's folder; refused", path.display())]
    Outside {
        /// The function.
        name: String,
        /// The module.
        path: PathBuf,
    },
    /// The twin takes texts of the module, which cannot be read.
    #[error("the Python function {name} has a twin here, which takes its texts from its module: {what}")]
    Unread {
        /// The function.
        name: String,
        /// Why.
        what: Message,
    },
}

/// The module of a function as a text; nothing in it is run.
///
/// # Errors
/// It is not there.
pub(crate) fn module(function: &Function) -> Result<Arc<Module>, NoTwin> {
    Module::read(&path(function)).map(Arc::new).map_err(|what| unread(function, what))
}

/// That the texts of a function's module are not what its twin takes.
pub(crate) fn unread(function: &Function, what: Message) -> NoTwin {
    NoTwin::Unread { name: function.name.clone(), what }
}

/// Where the module of a function lies.
fn path(function: &Function) -> PathBuf {
    let (module, _) = function.name.rsplit_once('.').unwrap_or((function.name.as_str(), ""));
    function.folder.join(module.replace('.', "/") + ".py")
}

/// The twin of a function, and what the last `*` of its key stands for.
///
/// # Errors
/// There is none, or the function's module is not the one that it was written after.
pub fn find(function: &Function) -> Result<(Twin, String), NoTwin> {
    let path = path(function);
    let outside = |path: PathBuf| NoTwin::Outside { name: function.name.clone(), path };
    if !is_inside(&function.folder, &path) {
        return Err(outside(path));
    }
    let folders: Vec<&str> = function.folder.iter().filter_map(|part| part.to_str()).collect();
    let by_name = TWINS.iter().filter_map(|entry| {
        let (folder, name) = entry.key.rsplit_once('/')?;
        Some((entry, folder, part(name, &function.name)?))
    });
    let Some(hash) = hash(&path) else {
        let in_folder = by_name.filter(|(_, folder, _)| ends_with(&folders, folder));
        // Several folders may fit: the one without a pattern first, as the table has it.
        let found = in_folder.map(|(entry, _, star)| (entry.twin, star)).next();
        return found.ok_or_else(|| NoTwin::Missing(function.name.clone()));
    };
    let mut changed = false;
    for (entry, folder, star) in by_name {
        if entry.sha256.contains(&hash.as_str()) {
            if let Some(path) = outside_beside(&path, entry.beside) {
                return Err(outside(path));
            }
            return match changed_beside(&path, entry.beside) {
                Some((path, hash)) => Err(NoTwin::Changed { name: function.name.clone(), path, hash }),
                None => Ok((entry.twin, star)),
            };
        }
        changed |= ends_with(&folders, folder);
    }
    Err(match changed {
        true => NoTwin::Changed { name: function.name.clone(), path, hash },
        false => NoTwin::Missing(function.name.clone()),
    })
}

/// The first module beside another whose hash is none of those known, and that hash. One that is not there is another folder's.
fn changed_beside(path: &std::path::Path, beside: Beside) -> Option<(PathBuf, String)> {
    beside.iter().find_map(|(name, known)| {
        let path = path.with_file_name(format!("{name}.py"));
        let hash = hash(&path)?;
        (!known.contains(&hash.as_str())).then_some((path, hash))
    })
}

/// The first module beside another that is a link out of the folder where it should lie.
fn outside_beside(path: &std::path::Path, beside: Beside) -> Option<PathBuf> {
    let module = |name: &str| path.with_file_name(format!("{name}.py"));
    beside.iter().map(|(name, _)| module(name)).find(|path| path.parent().is_some_and(|folder| !is_inside(folder, path)))
}

/// What `*` of a pattern stands for in a text that fits.
fn part(pattern: &str, text: &str) -> Option<String> {
    match pattern.split_once('*') {
        None => (pattern == text).then(String::new),
        Some((before, behind)) => Some(text.strip_prefix(before)?.strip_suffix(behind)?.to_owned()),
    }
}

fn ends_with(folders: &[&str], key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    folders.len() >= parts.len()
        && parts.iter().zip(&folders[folders.len() - parts.len()..]).all(|(pattern, folder)| part(pattern, folder).is_some())
}

/// The SHA-256 of a module, in base 16; `None` where it is not there. Modules are read once.
fn hash(path: &PathBuf) -> Option<String> {
    static KNOWN: Mutex<Option<HashMap<PathBuf, Option<String>>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(|e| e.into_inner());
    let known = known.get_or_insert_default();
    if let Some(hash) = known.get(path) {
        return hash.clone();
    }
    let hash = std::fs::read(path).ok().map(|bytes| hex(&Sha256::digest(&bytes)));
    known.insert(path.clone(), hash.clone());
    hash
}

/// The text in a field of a document.
fn text<'a>(doc: &'a DataRow, name: &str) -> Result<&'a str, Message> {
    doc.get(name).and_then(Value::as_str).ok_or_else(|| Message::from(format!("the field {name:?} must be a text")))
}

/// The list in a field of a document.
fn list<'a>(doc: &'a DataRow, name: &str) -> Result<&'a Vec<Value>, Message> {
    doc.get(name).and_then(Value::as_array).ok_or_else(|| Message::from(format!("the field {name:?} must be a list")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::Map;

    use super::*;

    fn function(folder: &Path, name: &str) -> Function {
        Function { name: name.to_owned(), folder: Arc::from(folder) }
    }

    #[test]
    fn functions_are_found_by_folder_where_there_is_no_module() {
        let found = |folder: &str, name: &str| find(&function(Path::new(folder), name)).map(|(_, star)| star);
        assert_eq!(found("/x/tasks/hellaswag", "utils.process_docs"), Ok(String::new()));
        assert_eq!(found("/x/global_mmlu/full/am", "utils.process_high_school_physics"), Ok("high_school_physics".to_owned()));
        assert_eq!(found("/x/other", "utils.process_docs"), Err(NoTwin::Missing("utils.process_docs".to_owned())));
    }

    #[test]
    fn a_module_with_another_hash_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("hellaswag");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("utils.py"), "def process_docs(dataset): return dataset\n").unwrap();
        let error = find(&function(&folder, "utils.process_docs")).err().unwrap();
        assert!(matches!(&error, NoTwin::Changed { .. }), "{error}");
        assert!(error.to_string().contains("utils.py") && error.to_string().contains("SHA-256"));
        std::fs::write(folder.join("other.py"), "").unwrap();
        let error = find(&function(&folder, "other.process_docs")).err().unwrap();
        assert!(matches!(error, NoTwin::Missing(_)), "{error}");
    }

    #[test]
    fn modules_beside_are_held_to_their_hashes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("utils.py");
        // The SHA-256 of no bytes.
        const BESIDE: Beside = &[("a", &["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]), ("b", &[])];
        std::fs::write(dir.path().join("a.py"), "").unwrap();
        assert_eq!(changed_beside(&path, BESIDE), None);
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("a.py"), "x = 1").unwrap();
        assert_eq!(changed_beside(&other.path().join("utils.py"), BESIDE).unwrap().0, other.path().join("a.py"));
    }

    #[cfg(unix)]
    #[test]
    fn modules_that_are_links_out_of_the_folder_are_refused() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(other.path().join("utils.py"), "").unwrap();
        std::os::unix::fs::symlink(other.path().join("utils.py"), dir.path().join("utils.py")).unwrap();
        let error = find(&function(dir.path(), "utils.process_docs")).err().unwrap();
        assert!(matches!(&error, NoTwin::Outside { .. }) && error.to_string().contains("utils.py"), "{error}");
        assert!(outside_beside(&dir.path().join("a.py"), &[("utils", &[])]).is_some());
        assert!(outside_beside(&other.path().join("a.py"), &[("utils", &[])]).is_none());
        // What is no name of a module beside the file has an absolute path.
        assert!(matches!(find(&function(dir.path(), "..utils.f")), Err(NoTwin::Outside { .. })));
    }

    /// What lm-evaluation-harness 0.4.13 made of made-up documents and answers, one JSON object a line.
    #[test]
    fn twins_give_what_lm_eval_gives() {
        let mut failed = Vec::new();
        let lines: Vec<Value> = include_str!("golden.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &lines {
            let key = line["twin"].as_str().unwrap();
            let entry = TWINS.iter().find(|entry| entry.key == key).unwrap();
            let doc = line["doc"].as_object().cloned().unwrap_or_default();
            let answers = line["answers"].as_array().cloned().unwrap_or_default();
            let found = match entry.twin {
                Twin::Field(make) => make(&doc).unwrap(),
                Twin::Results(judge) => judge(&doc, &answers).unwrap().into_iter().collect::<Map<_, _>>().into(),
                Twin::Aggregation(of) => of(&answers).unwrap().into(),
                Twin::Docs(_) | Twin::Filter(_) | Twin::FieldOf(_) | Twin::DocsOf(_) => panic!("{key}"),
            };
            if !close(&found, &line["expected"]) {
                failed.push(format!("{line}\n  found {found}"));
            }
        }
        assert!(failed.is_empty() && lines.len() > 300, "{} of {}: {}", failed.len(), lines.len(), failed.join("\n"));
    }

    /// What Python functions of lm-evaluation-harness 0.4.13 made of made-up documents, where need be with made-up texts in their
    /// modules, one JSON object a line. Modules stand there without what is run.
    #[test]
    fn twins_take_the_texts_of_modules() {
        let lines: Vec<Value> = include_str!("modules.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &lines {
            let key = line["twin"].as_str().unwrap();
            assert_eq!(made(key, line), line["expected"], "{line}");
        }
        assert_eq!(lines.len(), 59);
    }

    fn made(key: &str, line: &Value) -> Value {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(line["folder"].as_str().unwrap());
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("utils.py"), line["module"].as_str().unwrap()).unwrap();
        if let Some(source) = line["beside"][1].as_str() {
            std::fs::write(dir.path().join("lang_libs.py"), source).unwrap();
        }
        let module = || Module::read(&folder.join("utils.py")).unwrap();
        let doc = line["doc"].as_object().cloned().unwrap_or_default();
        let rows = line["docs"].as_array().into_iter().flatten();
        let docs = Docs::new(rows.map(|row| row.as_object().unwrap().clone()).collect());
        let rows = |docs: Docs| docs.rows.iter().map(|row| Value::Object(row.as_ref().clone())).collect();
        match TWINS.iter().find(|entry| entry.key == key).unwrap().twin {
            Twin::Field(make) => make(&doc).unwrap(),
            Twin::FieldOf(make) => make(&module()).unwrap()(&doc).unwrap(),
            Twin::Docs(make) => rows(make(&docs, line["star"].as_str().unwrap()).unwrap()),
            Twin::DocsOf(make) => rows(make(&module(), &docs).unwrap()),
            _ => panic!("{key}"),
        }
    }

    #[test]
    fn modules_without_the_texts_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("utils.py");
        assert!(Module::read(&path).unwrap_err().to_string().contains("utils.py"));
        std::fs::write(&path, "PROMPT = f(1)\n").unwrap();
        let module = Module::read(&path).unwrap();
        assert!(module.text("PROMPT = ").unwrap_err().to_string().contains("PROMPT = "));
        assert!(module.texts("LABELS = ").is_err());
        let e = unread(&function(dir.path(), "utils.doc_to_text"), "x".into());
        assert!(e.to_string().contains("utils.doc_to_text") && e.to_string().ends_with(": x"));
    }

    fn close(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Number(a), Value::Number(b)) => (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-12,
            (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(key, value)| close(value, &b[key])),
            _ => a == b,
        }
    }

    #[test]
    fn hashes_are_hashes_and_keys_have_a_folder() {
        for entry in TWINS {
            assert!(entry.key.contains('/') && entry.key.contains('.'), "{}", entry.key);
            assert!(entry.sha256.iter().all(|hash| hash.len() == 64), "{}", entry.key);
        }
    }
}
