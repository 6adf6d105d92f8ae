use super::loss::{BLOCK_ROWS, COLUMNS};
use super::*;
use crate::features::{BlockConfig, BlockKind, Document, Space, SparseMatrix};
use crate::model::fixture::block;
use crate::model::head::softmax;
use crate::train::lbfgs::Evaluated;
use crate::train::vectors::of_documents;
use linfa::traits::{Predict, PredictInplace};
use ndarray::array;

fn matrix(rows: &Array2<f64>) -> SparseMatrix {
    let mut matrix = SparseMatrix::new(rows.ncols());
    for row in rows.rows() {
        let entries: Vec<(u32, f64)> = (0..).zip(row.iter().copied()).filter(|(_, value)| *value != 0.0).collect();
        matrix.push_vector(&entries);
    }
    matrix
}

fn fit(rows: &Array2<f64>, targets: &[usize], params: LogisticParams) -> Result<LinearModel, SolverError> {
    let matrix = matrix(rows);
    params.check()?.fit(&DatasetBase::new(SparseRows::all(&matrix), Array1::from(targets.to_vec())))
}

fn rows() -> Array2<f64> {
    array![
        [1.0, 0.0, 2.0],
        [0.0, 1.0, 0.0],
        [2.0, 1.0, 0.0],
        [0.0, 0.0, 1.0],
        [1.0, 1.0, 1.0],
        [0.0, 2.0, 0.0],
        [3.0, 0.0, 1.0],
        [0.0, 1.0, 2.0],
        [1.0, 0.0, 0.0]
    ]
}

fn assert_close<'a>(found: impl IntoIterator<Item = &'a f64>, expected: impl IntoIterator<Item = &'a f64>, within: f64) {
    let (found, expected): (Vec<_>, Vec<_>) = (found.into_iter().collect(), expected.into_iter().collect());
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!((*found - *expected).abs() < within, "{found} is not {expected}");
    }
}

/// The figures are those of scikit-learn 1.9.1:
///
/// ```python
/// import numpy as np
/// from sklearn.linear_model import LogisticRegression
/// X = np.array([[1,0,2],[0,1,0],[2,1,0],[0,0,1],[1,1,1],[0,2,0],[3,0,1],[0,1,2],[1,0,0]], float)
/// for y in ([0,1,0,2,2,1,0,2,0], [0,1,1,0,0,1,0,1,0]):
///     m = LogisticRegression(C=10, class_weight='balanced', tol=1e-12, max_iter=100000).fit(X, np.array(y))
///     print(m.coef_, m.intercept_, m.predict_proba(X[:2]))
/// ```
#[test]
fn three_unbalanced_labels_as_in_scikit_learn() {
    let model = fit(&rows(), &[0, 1, 0, 2, 2, 1, 0, 2, 0], LogisticParams::new(3).c(10.0).tolerance(1e-10)).unwrap();
    let weights = array![
        [2.421_157_34, -1.786_141_04, -0.635_016_30],
        [-2.044_277_19, 1.687_355_86, 0.356_921_33],
        [0.537_959_58, -1.791_466_67, 1.253_507_09]
    ];
    assert_close(&model.weights, &weights, 1e-5);
    assert_close(&model.bias, &[-0.813_607_50, 0.741_008_54, 0.072_598_96], 1e-5);
    let probabilities = softmax(model.logits([(0, 1.0), (2, 2.0)]).into_iter());
    assert_close(&probabilities, &[0.676_443_479, 0.000_451_723_077, 0.323_104_798], 1e-6);
}

#[test]
fn two_labels_as_in_scikit_learn() {
    let model = fit(&rows(), &[0, 1, 1, 0, 0, 1, 0, 1, 0], LogisticParams::new(2).c(10.0).tolerance(1e-10)).unwrap();
    // scikit-learn has one vector: the difference of our two.
    let difference = &model.weights.column(1) - &model.weights.column(0);
    assert_close(&difference, &[-0.635_945_20, 3.146_177_47, -0.633_447_45], 1e-5);
    assert_close(&[model.bias[1] - model.bias[0]], &[-1.198_574_03], 1e-5);
}

/// As above with `class_weight=None`: scikit-learn's intercepts, less ln(k · n(c) / n), are for labels that are equally frequent.
///
/// ```python
/// n = np.bincount(y) / len(y)
/// m = LogisticRegression(C=10, tol=1e-12, max_iter=100000).fit(X, np.array(y))
/// print(m.coef_, m.intercept_ - np.log(len(n) * n))  # of two labels: m.intercept_ - np.log(n[1] / n[0])
/// ```
#[test]
fn labels_without_weights_as_in_scikit_learn() {
    let params = |labels| LogisticParams::new(labels).c(10.0).class_weights(ClassWeights::None).tolerance(1e-10);
    let model = fit(&rows(), &[0, 1, 0, 2, 2, 1, 0, 2, 0], params(3)).unwrap();
    let weights = array![
        [2.515_851_95, -1.752_378_73, -0.763_473_22],
        [-2.141_005_59, 1.674_741_61, 0.466_263_98],
        [0.518_243_34, -1.688_838_93, 1.170_595_59]
    ];
    assert_close(&model.weights, &weights, 1e-5);
    // Biases may differ by a common number, which changes no probability.
    let expected: [f64; 3] = [-1.015_733_75, 0.970_502_02, 0.163_014_76];
    let shift = (expected.iter().sum::<f64>() - model.bias.iter().sum::<f64>()) / 3.0;
    assert_close(&model.bias.iter().map(|bias| bias + shift).collect::<Vec<_>>(), &expected, 1e-5);
    let model = fit(&rows(), &[0, 1, 1, 0, 0, 1, 0, 1, 0], params(2)).unwrap();
    assert_close(&(&model.weights.column(1) - &model.weights.column(0)), &[-0.656_415_51, 3.093_753_05, -0.654_702_58], 1e-5);
    assert_close(&[model.bias[1] - model.bias[0]], &[-1.085_015_42], 1e-5);
}

/// Square roots, and every other choice, are no weights on rows that weigh as much by themselves; the biases are for
/// equally frequent labels in each case.
#[test]
fn class_weights_are_weights_of_rows() {
    let (rows, targets) = (rows(), [0, 1, 0, 2, 2, 1, 0, 2, 0]);
    let matrix = matrix(&rows);
    let counts = [4.0_f64, 2.0, 3.0];
    let fitted = |class_weights, weight: &dyn Fn(f64) -> f64| {
        let settings = LogisticParams::new(3).c(2.0).class_weights(class_weights).tolerance(1e-10).check().unwrap();
        let data = DatasetBase::new(SparseRows::all(&matrix), Array1::from_iter(targets));
        let sum: f64 = targets.iter().map(|target| weight(counts[*target])).sum();
        let weights = targets.map(|target| (9.0 * weight(counts[target]) / sum) as f32);
        settings.fit(&data.with_weights(Array1::from_iter(weights))).unwrap()
    };
    for (class_weights, power) in [(ClassWeights::Balanced, -1.0), (ClassWeights::SquareRoot, -0.5)] {
        let ours = fitted(class_weights, &|_| 1.0);
        let by_hand = fitted(ClassWeights::None, &|count| count.powf(power));
        assert_close(&ours.weights, &by_hand.weights, 1e-5);
        let shift = ours.bias[0] - by_hand.bias[0];
        assert_close(&ours.bias, &by_hand.bias.iter().map(|bias| bias + shift).collect::<Vec<_>>(), 1e-5);
    }
}

#[test]
fn a_model_that_knows_nothing_takes_no_label_to_be_more_frequent() {
    let nothing = Array2::zeros((9, 1));
    for (labels, targets) in [(3, [0, 1, 0, 2, 2, 1, 0, 0, 0]), (2, [0, 1, 0, 0, 0, 1, 0, 0, 0])] {
        for class_weights in ClassWeights::ALL {
            let params = LogisticParams::new(labels).class_weights(class_weights).tolerance(1e-10);
            let bias = fit(&nothing, &targets, params).unwrap().bias;
            assert!(bias.iter().all(|other| (other - bias[0]).abs() < 1e-8), "{class_weights}: {bias:?}");
        }
    }
}

#[test]
fn who_starts_at_the_minimum_is_there_whatever_the_labels_weigh() {
    let matrix = matrix(&rows());
    for labels in [2, 3] {
        let targets: Array1<usize> =
            [0, 1, 0, 2, 2, 1, 0, 2, 0].map(|target: usize| target.min(labels - 1)).into_iter().collect();
        let data = DatasetBase::new(SparseRows::all(&matrix), targets);
        for class_weights in ClassWeights::ALL {
            let settings = LogisticParams::new(labels).class_weights(class_weights).check().unwrap();
            let found = settings.fit(&data).unwrap();
            // Of two labels a common addition to both says nothing.
            let same = LinearModel { weights: &found.weights + if labels == 2 { 3.0 } else { 0.0 }, ..found.clone() };
            assert!(found.iterations > 3);
            assert_eq!(settings.fit_from(&data, Some(&same)).unwrap().iterations, 0, "{labels} labels, {class_weights}");
        }
    }
}

/// With as many rows for each label, balanced weights are 1 and linfa's objective, Σ loss + α/2 ‖w‖², is ours with
/// α = 1/C.
#[test]
fn balanced_labels_as_in_linfa_logistic() {
    let targets = [0, 1, 0, 2, 2, 1, 0, 2, 1];
    let ours = fit(&rows(), &targets, LogisticParams::new(3).c(4.0).tolerance(1e-10)).unwrap();
    let data = linfa::Dataset::new(rows(), Array1::from(targets.to_vec()));
    let theirs = linfa_logistic::MultiLogisticRegression::default()
        .alpha(0.25)
        .gradient_tolerance(1e-9)
        .max_iterations(10_000)
        .fit(&data)
        .unwrap();
    assert_close(&ours.weights, theirs.params(), 1e-5);
    // Biases may differ by a common number, which changes no probability.
    let shift = ours.bias[0] - theirs.intercept()[0];
    assert_close(&ours.bias, &theirs.intercept().mapv(|bias| bias + shift), 1e-5);
    let matrix = matrix(&rows());
    let mut predicted = Array1::zeros(9);
    ours.predict_inplace(&SparseRows::all(&matrix), &mut predicted);
    assert_eq!(predicted, theirs.predict(&rows()));
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    // Enough rows for several blocks, and columns for several stretches.
    let mut matrix = SparseMatrix::new(3 * COLUMNS);
    for row in 0..3 * BLOCK_ROWS + 1 {
        let column = |at: usize| ((row * 31 + at * 997) % (3 * COLUMNS)) as u32;
        let entries: Vec<(u32, f64)> = (0..9).map(|at| (column(at), 1.0 / (1 + (row + at) % 9) as f64)).collect();
        matrix.push_vector(&entries);
    }
    let targets = Array1::from_iter((0..matrix.rows()).map(|row| (row * row + row / 7) % 3));
    let data = DatasetBase::new(SparseRows::all(&matrix), targets);
    // The second goes on in double precision.
    for tolerance in [1e-5, 1e-9] {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| LogisticParams::new(3).tolerance(tolerance).check().unwrap().fit(&data).unwrap())
        };
        let one = on(1);
        assert!(one == on(2) && one == on(8), "{tolerance}");
    }
}

#[test]
fn single_precision_rounds_less_away_than_any_tolerance_that_it_is_used_for() {
    // Thousands of rows in each block, and the labels in their order, so that sums are as large as they get. All rows have norms of about 1.
    let rows = Array2::from_shape_fn((40_000, 20), |(row, column)| {
        if (row * 31 + column * 17) % 5 < 2 { ((row + column) % 9) as f64 / 12.0 } else { 0.0 }
    });
    // And documents of hundreds of terms, whose weights are added up in single precision as well.
    for (matrix, least) in [(matrix(&rows), 0.01), (articles(5000).0, 1e-4)] {
        let rows = matrix.rows();
        for labels in [2, 3, 12] {
            let targets = Array1::from_iter((0..rows).map(|row| row * labels / rows));
            let data = DatasetBase::new(SparseRows::all(&matrix), targets);
            let settings = LogisticParams::new(labels).check().unwrap();
            let weights = vec![1.0; rows];
            let problems = [Problem::new(&settings, &weights, &[])];
            let (mut single, mut double) =
                (Losses::<f32>::new(&data, &problems).unwrap(), Losses::<f64>::new(&data, &problems).unwrap());
            let parameters = matrix.features() * if labels == 2 { 1 } else { labels };
            let at: Vec<f64> = (0..parameters).map(|n| (n * 7 % 11) as f64 / 3.1 - 1.5).collect();
            let mut gradients = [vec![0.0; at.len()], vec![0.0; at.len()]];
            let losses =
                (evaluate(&mut single, &at, &mut gradients[0]).value, evaluate(&mut double, &at, &mut gradients[1]).value);
            assert!(losses.0 != losses.1 && (losses.0 - losses.1).abs() < 1e-7 * losses.1, "{losses:?}");
            let largest = gradients[1].iter().fold(0.0, |largest: f64, slope| largest.max(slope.abs()));
            assert!(largest > least, "{largest}");
            assert_close(&gradients[0], &gradients[1], SINGLE / 20.0);
        }
    }
}

/// The loss of a single model, and its gradient.
fn evaluate<R: Real>(losses: &mut Losses<'_, R>, parameters: &[f64], gradient: &mut [f64]) -> Evaluated {
    losses.evaluate(&mut [Place { model: 0, parameters, gradient }]).unwrap()[0].0
}

/// Documents of some hundred words, most of them once, of which three tell the label.
fn articles(rows: usize) -> (SparseMatrix, Array1<usize>) {
    let text = |row: usize| {
        let words = (0..400).map(|at| format!("w{} ", (row * 131 + at * at * 17 + at * row % 7) % 2500));
        words.chain([format!("l{} ", row % 3)]).collect::<String>()
    };
    let texts: Vec<String> = (0..rows).map(text).collect();
    let documents: Vec<Document<'_>> = texts.iter().map(|text| Document::passage(text, 0..text.len())).collect();
    let space = Space::fit(vec![block(&[]).config], None, &documents.iter().collect::<Vec<_>>());
    (of_documents(&space, &documents).unwrap(), Array1::from_iter((0..rows).map(|row| (row + row / 11) % 3)))
}

#[test]
fn models_that_are_fitted_together_are_what_each_is_alone() {
    let (matrix, targets) = articles(2 * BLOCK_ROWS);
    let rows = matrix.rows();
    for labels in [2, 3] {
        let targets = targets.mapv(|target| target.min(labels - 1));
        let data = DatasetBase::new(SparseRows::all(&matrix), targets);
        let settings: Vec<ValidLogisticParams> = [(1.0, 1e-5), (100.0, 1e-5), (10.0, 1e-8), (1.0, 1e-3)]
            .map(|(c, tolerance)| LogisticParams::new(labels).c(c).tolerance(tolerance).check().unwrap())
            .into();
        // Each leaves out a fifth of the rows, and one all but a few.
        let weights = |fold: usize| (0..rows).map(move |row| if row % 5 == fold { 0.0 } else { 1.0 + (row % 2) as f32 });
        let mut all: Vec<Vec<f32>> = (0..4).map(|fold| weights(fold).collect()).collect();
        all[3] = (0..rows).map(|row| if row < 50 { 1.0 } else { 0.0 }).collect();
        let scales: Vec<f64> = (0..matrix.features()).map(|column| 0.5 + (column % 3) as f64).collect();
        let start = settings[0].fit(&data).unwrap();
        let mut problems: Vec<Problem<'_>> =
            settings.iter().zip(&all).map(|(settings, weights)| Problem::new(settings, weights, &scales)).collect();
        problems[1].scales = &[];
        let none = vec![0.0; matrix.features()];
        problems[3].scales = &none;
        problems[2].start = Some(&start);
        let together = fit_together(&data, &problems).unwrap();
        let iterations: Vec<u64> = together.iter().map(|model| model.iterations).collect();
        assert!(iterations.iter().any(|other| *other != iterations[0]), "{iterations:?}");
        for (problem, model) in problems.iter().zip(&together) {
            // Down to the last bit.
            assert_eq!(fit_together(&data, std::slice::from_ref(problem)).unwrap()[0], *model);
            // Rows that don't count are as good as not there, but for how sums are cut into blocks.
            let chosen: Vec<usize> = (0..rows).filter(|row| problem.weights[*row] > 0.0).collect();
            let targets = chosen.iter().map(|row| data.targets[*row]).collect();
            let weights = chosen.iter().map(|row| problem.weights[*row]).collect();
            let records = SparseRows { matrix: &matrix, rows: chosen, scales: problem.scales };
            let alone =
                problem.settings.fit_from(&DatasetBase::new(records, targets).with_weights(weights), problem.start).unwrap();
            let far = alone.weights.iter().zip(&model.weights).map(|(one, other)| (one - other).abs()).fold(0.0, f64::max);
            let largest = alone.weights.iter().fold(0.0, |largest: f64, weight| largest.max(weight.abs()));
            // The nearer both come to the minimum, the nearer they are to one another.
            let within = if problem.settings.tolerance < 1e-7 { 1e-4 } else { 0.05 };
            assert!(far <= within * largest, "{far} of {largest}");
        }
    }
}

#[test]
fn models_that_cannot_be_fitted_together_are_refused() {
    let matrix = matrix(&rows());
    let data = DatasetBase::new(SparseRows::all(&matrix), Array1::from_iter([0, 1, 0, 1, 0, 1, 0, 1, 0]));
    let [two, three] = [2, 3].map(|labels| LogisticParams::new(labels).check().unwrap());
    let refused = |problems: &[Problem<'_>]| fit_together(&data, problems).unwrap_err().to_string();
    let all = [1.0; 9];
    assert_eq!(refused(&[Problem::new(&two, &all, &[]), Problem::new(&three, &all, &[])]), "models of 2 and of 3 labels");
    assert_eq!(refused(&[Problem::new(&two, &all, &[]), Problem::new(&two, &all[1..], &[])]), "8 weights for 9 rows");
    assert_eq!(refused(&[Problem::new(&two, &[1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[])]), "label 1 has no row");
    assert_eq!(fit_together(&data, &[]).unwrap(), []);
}

#[test]
fn as_many_are_fitted_together_as_there_is_memory_for_but_at_least_one() {
    assert_eq!(
        [(2, u64::MAX), (3, u64::MAX), (5, u64::MAX), (40, u64::MAX)].map(|(labels, memory)| together(
            (100, 1000),
            labels,
            memory
        )),
        [8, 4, 2, 1]
    );
    // Many columns leave room for few.
    assert_eq!([100_000, 250_000, 400_000, 2_000_000].map(|columns| together((100, columns), 2, u64::MAX)), [8, 4, 2, 1]);
    // A model of a thousand columns and three labels takes about a megabyte.
    assert_eq!([0, 1_000_000, 2_000_000, 3_000_000].map(|memory| together((100, 1000), 3, memory)), [1, 1, 2, 3]);
    assert_eq!(together((0, 0), 0, 0), 1);
    // Rows count as well: a hundred thousand take four more.
    assert_eq!([9_000_000, 11_000_000].map(|memory| together((100_000, 1000), 3, memory)), [1, 2]);
}

#[test]
fn stopping_short_is_an_error_that_tells_the_gradient() {
    let error = fit(&rows(), &[0, 1, 0, 2, 2, 1, 0, 2, 0], LogisticParams::new(3).max_iterations(2)).unwrap_err();
    let SolverError::NotConverged { iterations, gradient, tolerance, .. } = error else { panic!("{error}") };
    assert_eq!(iterations, 2);
    assert!(gradient > tolerance);
}

#[test]
fn however_many_steps_are_allowed_none_is_claimed_to_be_at_the_minimum_that_is_not() {
    let (rows, targets) = (rows(), [0, 1, 0, 2, 2, 1, 0, 2, 0]);
    let params = |steps| LogisticParams::new(3).tolerance(1e-10).max_iterations(steps);
    let whole = fit(&rows, &targets, params(1000)).unwrap();
    for steps in 0..whole.iterations {
        let error = fit(&rows, &targets, params(steps)).unwrap_err();
        let SolverError::NotConverged { iterations, gradient, .. } = error else { panic!("{error}") };
        assert!(iterations == steps && gradient > 1e-10, "{steps}: {iterations}, {gradient}");
    }
    assert_eq!(fit(&rows, &targets, params(whole.iterations)).unwrap(), whole);
}

#[test]
fn without_columns_there_are_biases() {
    let mut matrix = SparseMatrix::new(0);
    (0..20).for_each(|_| matrix.push_vector(&[]));
    let data = DatasetBase::new(SparseRows::all(&matrix), Array1::from_iter((0..20).map(|row| row % 10)));
    let model = LogisticParams::new(10).check().unwrap().fit(&data).unwrap();
    assert_close(&model.bias, &[0.0; 10], 1e-9);
    // Labels of 12, 5 and 3 rows: the loss is their entropy.
    let data = DatasetBase::new(
        SparseRows::all(&matrix),
        Array1::from_iter((0..20).map(|row| usize::from(row > 11) + usize::from(row > 16))),
    );
    let settings = LogisticParams::new(3).class_weights(ClassWeights::None).tolerance(1e-9).check().unwrap();
    let model = settings.fit(&data).unwrap();
    let entropy: f64 = [0.6_f64, 0.25, 0.15].iter().map(|share| -share * share.ln()).sum();
    assert!((settings.loss(&data, &model).unwrap() - entropy).abs() < 1e-12);
    // For labels that are equally frequent there is no bias.
    assert_close(&model.bias, &[model.bias[0]; 3], 1e-8);
}

#[test]
fn bad_settings_and_labels_are_refused() {
    let refused = |params: LogisticParams, targets: &[usize]| fit(&rows(), targets, params).unwrap_err().to_string();
    let targets = [0, 1, 0, 1, 0, 1, 0, 1, 0];
    assert_eq!(refused(LogisticParams::new(2).c(-1.0), &targets), "C is -1; it must be a number above zero");
    assert_eq!(
        refused(LogisticParams::new(2).tolerance(f64::NAN), &targets),
        "the tolerance is NaN; it must be a number above zero"
    );
    assert_eq!(refused(LogisticParams::new(1), &targets), "1 labels; at least two are needed");
    assert_eq!(refused(LogisticParams::new(3), &targets), "label 2 has no row");
    assert_eq!(refused(LogisticParams::new(2), &[0, 1, 0, 1, 0, 1, 0, 1, 2]), "label 2 of 2");
    assert_eq!(refused(LogisticParams::new(2), &[0, 1]), "there are not as many labels as rows");
}

#[test]
fn the_gradient_is_that_of_the_loss() {
    let rows = rows();
    let matrix = matrix(&rows);
    for (labels, scales) in [(3, vec![]), (3, vec![0.5, 0.0, 2.0]), (2, vec![0.5, 3.0, 0.0])] {
        let targets = Array1::from_iter([0, 1, 0, 2, 2, 1, 0, 2, 0].map(|target| target.min(labels - 1)));
        let records = SparseRows { scales: &scales, ..SparseRows::all(&matrix) };
        let data = DatasetBase::new(records, targets);
        let settings = LogisticParams::new(labels).c(2.0).check().unwrap();
        let weights: Vec<f32> = (0..9).map(|row| 1.0 + row as f32).collect();
        let problems = [Problem::new(&settings, &weights, &scales)];
        let mut loss = Losses::<f64>::new(&data, &problems).unwrap();
        let parameters = loss.diagonals().unwrap()[0].len();
        let at: Vec<f64> = (0..parameters).map(|n| (n * 7 % 5) as f64 / 4.0 - 0.5).collect();
        let mut gradient = vec![0.0; at.len()];
        evaluate(&mut loss, &at, &mut gradient);
        for (n, slope) in gradient.iter().enumerate() {
            let mut moved = |by: f64| {
                let mut moved = at.clone();
                moved[n] += by;
                evaluate(&mut loss, &moved, &mut vec![0.0; at.len()]).value
            };
            assert!(((moved(1e-5) - moved(-1e-5)) / 2e-5 - slope).abs() < 1e-8);
        }
    }
}

#[test]
fn scaled_columns_are_columns_with_other_values() {
    let (rows, scales) = (rows(), [0.5, 0.0, 2.0]);
    let scaled = &rows * &Array1::from_iter(scales);
    for labels in [2, 3] {
        let targets: Vec<usize> = [0, 1, 0, 2, 2, 1, 0, 2, 0].map(|target: usize| target.min(labels - 1)).to_vec();
        let params = LogisticParams::new(labels).c(2.0).tolerance(1e-10);
        let expected = fit(&scaled, &targets, params.clone()).unwrap();
        let matrix = matrix(&rows);
        let data = DatasetBase::new(SparseRows { scales: &scales, ..SparseRows::all(&matrix) }, Array1::from(targets));
        let settings = params.check().unwrap();
        let found = settings.fit(&data).unwrap();
        // The weights are for the columns as they are.
        let expected_weights = &expected.weights * &Array1::from_iter(scales).insert_axis(ndarray::Axis(1));
        assert_close(&found.weights, &expected_weights, 1e-8);
        assert_close(&found.bias, &expected.bias, 1e-8);
        // Who starts at the minimum is there.
        let again = settings.fit_from(&data, Some(&found)).unwrap();
        assert_eq!(again.iterations, 0);
        assert_close(&again.weights, &found.weights, 1e-12);
    }
}

#[test]
fn a_row_of_twice_the_weight_is_a_row_that_stands_twice() {
    let (rows, targets) = (rows(), [0, 1, 0, 2, 2, 1, 0, 2, 0]);
    let matrix = matrix(&rows);
    let settings = LogisticParams::new(3).c(2.0).tolerance(1e-9).check().unwrap();
    let fitted = |rows: Vec<usize>, weights: Option<Vec<f32>>| {
        let targets: Array1<usize> = rows.iter().map(|row| targets[*row]).collect();
        let data = DatasetBase::new(SparseRows { matrix: &matrix, rows, scales: &[] }, targets);
        let data = match weights {
            Some(weights) => data.with_weights(Array1::from(weights)),
            None => data,
        };
        settings.fit(&data).unwrap()
    };
    let twice = fitted((0..9).chain(0..3).collect(), None);
    let weighted = fitted((0..9).collect(), Some([vec![2.0; 3], vec![1.0; 6]].concat()));
    for (left, right) in twice.weights.iter().zip(&weighted.weights) {
        assert!((left - right).abs() < 1e-7, "{left} {right}");
    }
    let plain = fitted((0..9).collect(), None);
    assert!(plain.weights.iter().zip(&weighted.weights).any(|(left, right)| (left - right).abs() > 1e-3));
}

#[test]
fn counted_rows_are_rows_of_their_values() {
    let texts = ["a a a b", "b c", "a c c d", "d d b", "e a", "b b c e", "a d", "c e e e", "d a b"];
    let documents: Vec<Document<'_>> = texts.iter().map(|text| Document::passage(text, 0..text.len())).collect();
    let configured = |name: &str, kind, weight| BlockConfig { name: name.into(), kind, weight, ..block(&[]).config };
    let configs = vec![configured("word", BlockKind::Words, 1.0), configured("ngram", BlockKind::Ngrams { min: 1, max: 2 }, 0.5)];
    let space = Space::fit(configs, None, &documents.iter().collect::<Vec<_>>());
    let counted = of_documents(&space, &documents).unwrap();
    assert!(counted.idf().iter().any(|idf| *idf > 1.5));
    let mut plain = SparseMatrix::new(space.features());
    let mut cursor = counted.cursor();
    for row in 0..texts.len() {
        let entries: Vec<(u32, f64)> = cursor.row(row).unwrap().entries().map(|(column, value)| (column as u32, value)).collect();
        // A row's blocks have the norms of their weights: 1 together.
        assert!((entries.iter().map(|(_, value)| value * value).sum::<f64>() - 1.0).abs() < 1e-9);
        plain.push_vector(&entries);
    }
    let scales: Vec<f64> = (0..space.features()).map(|column| 0.5 + (column % 3) as f64).collect();
    for labels in [2, 3] {
        let targets: Vec<usize> = [0, 1, 0, 2, 2, 1, 0, 2, 1].map(|target: usize| target.min(labels - 1)).to_vec();
        let settings = LogisticParams::new(labels).c(5.0).tolerance(1e-10).check().unwrap();
        let fit = |matrix| {
            let records = SparseRows { scales: &scales, ..SparseRows::all(matrix) };
            settings.fit(&DatasetBase::new(records, Array1::from(targets.clone()))).unwrap()
        };
        let (found, expected) = (fit(&counted), fit(&plain));
        assert_close(&found.weights, &expected.weights, 1e-8);
        assert_close(&found.bias, &expected.bias, 1e-8);
    }
}
