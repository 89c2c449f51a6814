// Gaussian hidden Markov model of K states with one known scale and ordered means.
//
//   stay[k]  ~ Beta(concentration, concentration); the other states are equally probable
//   means    ~ Normal(location, prior_scale), conditioned on means[1] < ... < means[K]
//   z[1]     ~ Uniform{1, ..., K}, then a Markov chain
//   y[t, r]  ~ Normal(means[z[t]], scale); time points with n_reps[t] = 0 are missing
//
// The indicators are summed out by the forward algorithm. With log_lik[t, k] the log density of
// time point t in state k, up to a term free of the parameters,
//   log_alpha[t, k] = log_lik[t, k] + log sum_j exp(log_alpha[t - 1, j] + log A[j, k])
//   log_beta[t, j]  = log sum_k exp(log A[j, k] + log_lik[t + 1, k] + log_beta[t + 1, k])
// and filtering is proportional to alpha[t], smoothing to alpha[t] * beta[t].
functions {
  matrix log_transitions(vector stay) {
    int K = num_elements(stay);
    matrix[K, K] log_A;
    for (j in 1:K) {
      log_A[j] = rep_row_vector(log1m(stay[j]) - log(K - 1), K);
      log_A[j, j] = log(stay[j]);
    }
    return log_A;
  }
  matrix log_likelihoods(vector y_mean, vector half_precision, vector means) {
    matrix[num_elements(y_mean), num_elements(means)] log_lik;
    for (k in 1:num_elements(means)) {
      log_lik[, k] = -half_precision .* square(y_mean - means[k]);
    }
    return log_lik;
  }
  matrix forward(matrix log_A, matrix log_lik) {
    int T = rows(log_lik);
    int K = cols(log_lik);
    matrix[T, K] log_alpha;
    log_alpha[1] = log_lik[1] - log(K);
    for (t in 2:T) {
      for (k in 1:K) {
        log_alpha[t, k] = log_lik[t, k] + log_sum_exp(log_alpha[t - 1]' + log_A[, k]);
      }
    }
    return log_alpha;
  }
}
data {
  int<lower=1> T;                     // time points
  int<lower=2> K;                     // states
  vector[T] y_mean;                   // mean of the observed replicates
  array[T] int<lower=0> n_reps;       // number of observed replicates
  real<lower=0> concentration;
  vector[K] location;
  real<lower=0> prior_scale;
  real<lower=0> scale;
}
transformed data {
  vector[T] half_precision = to_vector(n_reps) / (2 * square(scale));
}
parameters {
  vector<lower=0, upper=1>[K] stay;
  ordered[K] means;
}
model {
  stay ~ beta(concentration, concentration);
  means ~ normal(location, prior_scale);
  matrix[T, K] log_alpha = forward(
    log_transitions(stay), log_likelihoods(y_mean, half_precision, means));
  target += log_sum_exp(log_alpha[T]);
}
generated quantities {
  matrix[T, K] filtering;             // p(z[t] = k | y[1:t], theta)
  matrix[T, K] membership;            // smoothing: p(z[t] = k | y[1:T], theta)
  array[T] int path;                  // one draw of z[1:T] from p(z | y, theta), states from 1
  {
    matrix[K, K] log_A = log_transitions(stay);
    matrix[T, K] log_lik = log_likelihoods(y_mean, half_precision, means);
    matrix[T, K] log_alpha = forward(log_A, log_lik);
    row_vector[K] log_beta = rep_row_vector(0, K);
    vector[K] after = rep_vector(0, K);  // log A[, path[t + 1]]; nothing follows the last
    for (s in 1:T) {
      int t = T + 1 - s;
      filtering[t] = softmax(log_alpha[t]')';
      membership[t] = softmax((log_alpha[t] + log_beta)')';
      row_vector[K] following = log_lik[t] + log_beta;
      for (j in 1:K) {
        log_beta[j] = log_sum_exp(log_A[j] + following);
      }
      path[t] = categorical_rng(softmax(log_alpha[t]' + after));
      for (k in 1:K) {
        if (path[t] == k) {
          after = log_A[, k];
        }
      }
    }
  }
}
