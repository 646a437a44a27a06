//! Expected numbers: SciPy 1.17 and statsmodels 0.15. Clustered standard errors and p:
//! `OLS(d, ones).fit(cov_type="cluster", cov_kwds={"groups": g}, use_t=True)`; the interval its `conf_int`, or with the draw that
//! [`paired`] adds, the formula in NumPy. Without clusters: `scipy.stats.ttest_rel`.

use super::super::test_help::near;
use super::*;

fn item(reference: f64, lane: f64, cluster: Option<u64>) -> PairedItem {
    PairedItem { reference, lane, cluster }
}

/// Right and wrong as digits, with clusters.
fn digits(reference: &str, lane: &str, clusters: &[u64]) -> Vec<PairedItem> {
    assert!(reference.len() == lane.len() && lane.len() == clusters.len());
    let value = |digit: u8| f64::from(digit - b'0');
    let both = reference.bytes().zip(lane.bytes()).zip(clusters);
    both.map(|((r, l), &cluster)| item(value(r), value(l), Some(cluster))).collect()
}

fn values(reference: &[f64], lane: &[f64]) -> Vec<PairedItem> {
    reference.iter().zip(lane).map(|(&r, &l)| item(r, l, None)).collect()
}

/// Items that only one of the two got right.
fn flips(items: usize, only_reference: usize, only_lane: usize) -> Vec<PairedItem> {
    let mut all = vec![item(1.0, 1.0, None); items - only_reference - only_lane];
    all.extend(vec![item(1.0, 0.0, None); only_reference]);
    all.extend(vec![item(0.0, 1.0, None); only_lane]);
    all
}

#[track_caller]
fn check(pair: &Paired, difference: f64, error: f64, p: f64, ends: (f64, f64)) {
    near(pair.difference.value, difference);
    near(pair.standard_error.unwrap(), error);
    near(pair.p_value, p);
    near(pair.difference.low().unwrap(), ends.0);
    near(pair.difference.high().unwrap(), ends.1);
}

// p: scipy.stats.binomtest; error: scipy.stats.sem of the differences; interval: Agresti and Min's formula in NumPy.
#[test]
fn single_items_right_or_wrong_have_mcnemars_p_and_agresti_and_mins_interval() {
    let pair = paired(&flips(120, 14, 4)).unwrap();
    let ends = (-0.1504669835310979, -0.013467442698410284);
    check(&pair, -0.08333333333333333, 0.03467199915893137, 0.0308837890625, ends);
    assert_eq!((pair.items, pair.clusters, pair.differing), (120, 120, 18));
    assert_eq!((pair.only_reference, pair.only_lane), (Some(14), Some(4)));
    assert_eq!((pair.test, pair.degrees), (PairedTest::McNemar, None));

    let pair = paired(&flips(60, 3, 3)).unwrap();
    check(&pair, 0.0, 0.04116934847963091, 1.0, (-0.08363834325381012, 0.08363834325381012));

    let pair = paired(&flips(1000, 70, 41)).unwrap();
    let ends = (-0.04956531152974013, -0.008318920007186027);
    check(&pair, -0.029, 0.010500917544161046, 0.0075848117754316186, ends);

    // Clusters of one item each change nothing.
    let numbered: Vec<_> = (0..).zip(flips(1000, 70, 41)).map(|(n, i)| PairedItem { cluster: Some(n), ..i }).collect();
    assert_eq!(paired(&numbered), Some(pair));
}

/// 300 items in 27 clusters; 23 and 3 flips.
fn generated() -> Vec<PairedItem> {
    let right = |i: u64| if i * 7919 % 1009 < 700 { 1.0 } else { 0.0 };
    let other = |i: u64| if i * 31 % 7 < 2 { 1.0 } else { 0.0 };
    let one = |i| item(right(i), if i * 104_729 % 997 < 150 { other(i) } else { right(i) }, Some(i * i % 53));
    (0..300).map(one).collect()
}

#[test]
fn clusters_give_the_cluster_robust_error_and_t() {
    let pair = paired(&generated()).unwrap();
    let ends = (-0.10645092439374343, -0.026882408939589895);
    check(&pair, -0.06666666666666667, 0.01853063990758588, 0.0013224989759115144, ends);
    assert_eq!((pair.items, pair.clusters, pair.differing), (300, 27, 17));
    assert_eq!((pair.only_reference, pair.only_lane), (Some(23), Some(3)));
    assert_eq!((pair.test, pair.degrees), (PairedTest::ClusteredT, Some(26.0)));
}

const CLUSTERED: [(f64, f64, u64); 14] = [
    (0.5, 0.25, 0),
    (0.25, 0.2, 0),
    (0.75, 0.8, 0),
    (1.0, 0.7, 1),
    (0.8, 0.75, 1),
    (0.4, 0.35, 2),
    (0.3, 0.35, 2),
    (0.9, 0.7, 3),
    (0.65, 0.6, 3),
    (0.55, 0.3, 3),
    (0.15, 0.2, 4),
    (0.7, 0.65, 5),
    (0.35, 0.15, 5),
    (0.6, 0.45, 6),
];

fn clustered() -> Vec<PairedItem> {
    CLUSTERED.iter().map(|&(r, l, cluster)| item(r, l, Some(cluster))).collect()
}

#[test]
fn where_all_clusters_differ_the_interval_is_statsmodels_own() {
    let pair = paired(&clustered()).unwrap();
    let (error, ends) = (0.02786106722750215, (-0.17174500415595056, -0.03539785298690662));
    // statsmodels has p = 0.009882408993446052; seven clusters cannot give less than 2^-6.
    check(&pair, -0.10357142857142856, error, 0.015625, ends);
    assert_eq!((pair.only_reference, pair.only_lane, pair.clusters), (None, None, 7));

    let big: Vec<PairedItem> = (0..60_000_u64)
        .map(|i| {
            let (r, l) = ((i * 104_729 % 997) as f64 / 997.0, (i * 7919 % 1009) as f64 / 1009.0);
            item(r, l - 0.003, Some(i / 3))
        })
        .collect();
    let ends = (-0.007273454591744902, 0.0013288336791226485);
    check(&paired(&big).unwrap(), -0.0029723104563111227, 0.002194368804201737, 0.1755867076539618, ends);
}

#[test]
fn few_clusters_that_differ_prove_little() {
    // statsmodels: p = 0.0315675 with the interval -0.393 to -0.024, of four clusters that lost and five that did not.
    let clusters = [1, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 5, 6, 6, 7, 7, 7, 8, 8, 9, 9, 9];
    let pair = paired(&digits("111011011110111101101110", "101010010100111101001110", &clusters)).unwrap();
    let ends = (-0.43700526399607886, 0.02033859732941215);
    check(&pair, -0.20833333333333334, 0.08009664843348807, 0.125, ends);
    // statsmodels: p = 0.00945 of six that lost and three that did not.
    let clusters = [7, 7, 9, 9, 9, 1, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 8, 8];
    let pair = paired(&digits("1111011110111111111011", "0110100001010101011010", &clusters)).unwrap();
    let ends = (-0.7441995876962075, -0.07398223048561064);
    check(&pair, -0.4090909090909091, 0.1205494855709301, 0.03125, ends);
}

const X: [f64; 8] = [-1.2, -0.4, -2.5, -0.05, -3.1, -0.9, -1.75, -0.33];
const Y: [f64; 8] = [-1.3, -0.7, -2.4, -0.06, -3.9, -1.1, -1.7, -0.5];
const V: [f64; 11] = [12.5, 3.25, 8.0, 9.5, -4.0, 0.5, 7.75, 2.0, 1.0, 6.0, 5.5];
const W: [f64; 11] = [13.0, 4.5, 7.0, 11.0, -3.5, 2.5, 9.0, 1.75, 1.5, 7.5, 5.25];

#[test]
fn single_values_have_the_paired_t_test() {
    let pair = paired(&values(&X, &Y)).unwrap();
    let ends = (-0.41645218634082526, 0.0589521863408253);
    check(&pair, -0.17874999999999996, 0.1005242952154922, 0.11861057223968538, ends);
    assert_eq!((pair.test, pair.degrees, pair.only_lane), (PairedTest::PairedT, Some(7.0), None));

    let ends = (0.06659491178441612, 1.2970414518519475);
    check(&paired(&values(&V, &W)).unwrap(), 0.6818181818181818, 0.27611531906340797, 0.03314319854516149, ends);

    let many = |i: u64| item((i * 7919 % 1009) as f64 / 1009.0, (i * 104_729 % 997) as f64 / 997.0 + 0.012, None);
    let ends = (7.058206061480096e-05, 0.022702687985954765);
    let pair = paired(&(0..4999).map(many).collect::<Vec<_>>()).unwrap();
    check(&pair, 0.011386635023284783, 0.005772204314387093, 0.04858858228104087, ends);
}

#[test]
fn without_differences_p_is_one_and_a_width_stays() {
    // Four clusters of which one more would flip: 3.1824463052837078 / 4 * sqrt(4 / 3), with t's point at 3 degrees.
    let pair = paired(&digits("11010011", "11010011", &[1, 1, 2, 2, 3, 3, 4, 4])).unwrap();
    let half = 0.9186931155185393;
    check(&pair, 0.0, 0.0, 1.0, (-half, half));
    assert_eq!(
        paired(&flips(100, 0, 0)).unwrap().difference.low(),
        paired_accuracy(&[(true, true); 100]).unwrap().difference.low()
    );
    // Values without bounds: nothing tells how large a difference could be.
    let pair = paired(&values(&X, &X)).unwrap();
    assert_eq!((pair.p_value, pair.standard_error, pair.difference.interval), (1.0, Some(0.0), None));
}

#[test]
fn draws_that_differ_alike_have_no_infinite_t() {
    // 0.1 is no binary fraction: the differences differ by rounding alone.
    let pair = paired(&values(&[0.4, 0.7, 0.9], &[0.3, 0.6, 0.8])).unwrap();
    assert_eq!((pair.p_value, pair.standard_error), (0.25, Some(0.0)));
    // One more draw of 0.1: 4.302652729749462 * 0.1 / 3 * sqrt(3 / 2).
    near(pair.difference.low().unwrap(), -0.1 - 0.17565506213798915);
    assert_eq!(paired(&digits("1111", "0101", &[1, 1, 2, 2])).unwrap().p_value, 0.5);
}

#[test]
fn what_cannot_be_tested_is_never_significant() {
    assert_eq!(paired(&[]), None);
    let one = paired(&digits("1111", "0000", &[3; 4])).unwrap();
    assert_eq!((one.difference, one.standard_error), (Estimate { value: -1.0, interval: None }, None));
    assert_eq!((one.p_value, one.clusters), (1.0, 1));
    let single = paired(&[item(2.0, 1.0, None)]).unwrap();
    assert_eq!((single.difference.interval, single.standard_error, single.p_value), (None, None, 1.0));
    near(paired(&flips(1, 1, 0)).unwrap().p_value, 1.0);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for place in 0..8 {
            let mut lane = Y;
            lane[place] = bad;
            for items in [values(&X, &lane), values(&lane, &Y), values(&lane, &lane)] {
                let pair = paired(&items).unwrap();
                assert!(!pair.difference.value.is_finite());
                assert_eq!((pair.difference.interval, pair.standard_error, pair.p_value), (None, None, 1.0));
                let macro_pair = macro_mean(&[pair, paired(&flips(120, 14, 4)).unwrap()]).unwrap();
                assert_eq!((macro_pair.difference.interval, macro_pair.p_value), (None, 1.0));
            }
        }
    }
    // Squares beyond what a number can hold.
    let pair = paired(&values(&[0.0, 0.0, 0.0], &[-1e300, -1e300, -3e300])).unwrap();
    assert_eq!((pair.difference.interval, pair.p_value), (None, 1.0));
}

// scipy.stats.sem; statsmodels as above.
#[test]
fn a_lane_has_both_standard_errors() {
    let of = |values: &[f64], clusters: &[u64]| {
        mean_with_error(&values.iter().copied().zip(clusters.iter().copied().map(Some)).collect::<Vec<_>>()).unwrap()
    };
    let right = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0];
    let m = of(&right, &[1, 1, 2, 2, 3, 3, 3, 4, 4, 5]);
    near(m.mean, 0.7);
    near(m.standard_error.unwrap(), 0.15275252316519464);
    near(m.clustered_error.unwrap(), 0.16507574019219173);
    assert_eq!((m.items, m.clusters), (10, 5));
    let m = of(&[0.25, 0.5, 0.125, 0.75, 1.0, 0.6], &[1, 1, 1, 2, 2, 3]);
    near(m.mean, 0.5375);
    near(m.standard_error.unwrap(), 0.1312995938049061);
    near(m.clustered_error.unwrap(), 0.2044746826219163);
    // Without clusters both are the same.
    let m = mean_with_error(&right.map(|value| (value, None))).unwrap();
    near(m.clustered_error.unwrap(), 0.15275252316519464);

    assert_eq!(mean_with_error(&[]), None);
    let m = mean_with_error(&[(0.5, None)]).unwrap();
    assert_eq!((m.mean, m.standard_error, m.clustered_error), (0.5, None, None));
    let m = mean_with_error(&[(0.5, None), (f64::INFINITY, None)]).unwrap();
    assert_eq!((m.mean, m.standard_error, m.clustered_error), (f64::INFINITY, None, None));
}

// scipy.stats.ttest_ind(a, -b, equal_var=False) of the differences a and b: Welch's test of their sum; half its interval.
#[test]
fn the_mean_of_two_tasks_has_welchs_test() {
    let tasks = [paired(&values(&X, &Y)).unwrap(), paired(&values(&V, &W)).unwrap()];
    let pair = macro_mean(&tasks).unwrap();
    let ends = (-0.06713411036304467, 0.5702022921812264);
    check(&pair, 0.2515340909090909, 0.14692243136265734, 0.11154598244878383, ends);
    near(pair.degrees.unwrap(), 12.512537206953287);
    assert_eq!((pair.items, pair.clusters, pair.only_lane, pair.test), (19, 19, None, PairedTest::MacroMean));

    // With a third, clustered: the same formulas in NumPy, each item of it a draw.
    let third: Vec<_> = clustered().into_iter().map(|i| PairedItem { cluster: None, ..i }).collect();
    let pair = macro_mean(&[tasks[0], tasks[1], paired(&third).unwrap()]).unwrap();
    let ends = (-0.08001616179295817, 0.34634733062412704);
    check(&pair, 0.13316558441558443, 0.09853033484870612, 0.19991270422251628, ends);
}

// The formulas in NumPy, with scipy.stats.norm.
#[test]
fn the_mean_of_tasks_right_or_wrong_is_normal() {
    let tasks = [(120, 14, 4), (60, 3, 3), (1000, 70, 41)].map(|(n, b, c)| paired(&flips(n, b, c)).unwrap());
    let pair = macro_mean(&tasks).unwrap();
    let ends = (-0.07413066228157705, -0.0007582266073118196);
    check(&pair, -0.03744444444444444, 0.018279715683369717, 0.040519349556470075, ends);
    assert_eq!((pair.items, pair.differing, pair.degrees), (1180, 135, None));
    assert_eq!((pair.only_reference, pair.only_lane), (Some(87), Some(48)));

    assert_eq!(macro_mean(&[]), None);
    assert_eq!(macro_mean(&tasks[..1]), Some(tasks[0]));
    // Five flips one way over five tasks: z would give 0.025.
    let five = [(); 5].map(|()| paired(&flips(100, 1, 0)).unwrap());
    assert_eq!(macro_mean(&five).unwrap().p_value, 0.0625);
}

#[test]
fn a_mean_of_tasks_without_flips_keeps_a_width() {
    let tasks = [paired(&flips(50, 0, 0)).unwrap(), paired(&flips(50, 0, 0)).unwrap()];
    let pair = macro_mean(&tasks).unwrap();
    assert_eq!((pair.standard_error, pair.p_value), (Some(0.0), 1.0));
    // 1.959963984540054 / 52 / sqrt(2).
    near(pair.difference.high().unwrap(), 0.026651996622109188);
}

// statsmodels.stats.multitest.multipletests(p, method="holm").
#[test]
fn holms_p_values_are_those_of_statsmodels() {
    #[track_caller]
    fn check(p: &[f64], expected: &[f64]) {
        let adjusted = holm(p);
        assert_eq!(adjusted.len(), expected.len());
        adjusted.into_iter().zip(expected).for_each(|(a, &e)| near(a, e));
    }
    check(&[0.01, 0.04, 0.03, 0.005], &[0.03, 0.06, 0.06, 0.02]);
    check(&[0.2, 0.001, 0.001, 0.5, 0.0499, 0.012], &[0.4, 0.006, 0.006, 0.5, 0.1497, 0.048]);
    check(&[0.9, 0.8, 0.7], &[1.0; 3]);
    check(&[0.03], &[0.03]);
    check(&[], &[]);
    check(&[f64::NAN, 0.01], &[1.0, 0.02]);
}

#[test]
fn the_fields_have_snake_case_names() {
    let json = serde_json::to_value(paired(&flips(10, 1, 0)).unwrap()).unwrap();
    assert_eq!((json["test"].as_str(), json["only_reference"].as_u64()), (Some("mcnemar"), Some(1)));
}
