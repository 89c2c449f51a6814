// Hidden Markov model of response times: guessing (state 1) or controlled responding (state 2).
//
//   stay[k]                       ~ Beta(stay_prior)
//   threshold[1]                  ~ Normal+(guessing_threshold)
//   threshold[2] - threshold[1]   ~ Normal+(threshold_difference)
//   guessing_drift                ~ Normal+(guessing_drift_prior)
//   controlled_drift[1]           ~ Normal+(incorrect_drift)
//   controlled_drift[2] - [1]     ~ Normal+(drift_difference)
//   non_decision_time             ~ Exponential(mean non_decision_time_mean)
//   z[1] ~ Uniform{1, 2}, then a Markov chain
//   z[t] = 1: rt[t] - non_decision_time ~ Wald(threshold[1], guessing_drift), correct by chance
//   z[t] = 2: two accumulators race, Wald(threshold[2], controlled_drift[i]); the first one gives
//             rt[t] - non_decision_time and the response, the other one is later
//
// Normal+ is the normal truncated to positive values; its constants are left out. No response
// comes before non_decision_time, so the fastest one is its upper bound.
//
// Wald(alpha, nu) has, with a = (alpha - nu t) / sqrt(t) and b = (alpha + nu t) / sqrt(t),
//   log density  = log(alpha) - log(2 pi) / 2 - 3 log(t) / 2 - a^2 / 2
//   survival     = Phi(a) - exp(2 alpha nu) Phi(-b)
//
// The indicators are summed out by the forward algorithm. With log_lik[t, k] the log density of
// trial t in state k, zero for a trial that was not observed,
//   log_alpha[t, k] = log_lik[t, k] + log sum_j exp(log_alpha[t - 1, j] + log A[j, k])
//   log_beta[t, j]  = log sum_k exp(log A[j, k] + log_lik[t + 1, k] + log_beta[t + 1, k])
// and filtering is proportional to alpha[t], smoothing to alpha[t] * beta[t].
functions {
  vector wald_log_density(vector t, real alpha, vector nu) {
    return log(alpha) - 0.5 * log(2 * pi()) - 1.5 * log(t) - 0.5 * square(alpha - nu .* t) ./ t;
  }
  vector wald_log_survival(vector t, real alpha, vector nu) {
    int T = num_elements(t);
    vector[T] root = sqrt(t);
    vector[T] a = alpha ./ root - nu .* root;
    vector[T] minus_b = -alpha ./ root - nu .* root;
    vector[T] minuend;
    vector[T] subtrahend;
    for (i in 1:T) {
      minuend[i] = std_normal_lcdf(a[i]);
      subtrahend[i] = std_normal_lcdf(minus_b[i]);
    }
    return log_diff_exp(minuend, 2 * alpha * nu + subtrahend);
  }
  matrix log_likelihoods(vector decision_time, vector correct, vector observed,
                         vector threshold, real guessing_drift, vector controlled_drift) {
    int T = num_elements(decision_time);
    real advantage = controlled_drift[2] - controlled_drift[1];
    vector[T] winner = controlled_drift[1] + advantage * correct;
    vector[T] loser = controlled_drift[2] - advantage * correct;
    matrix[T, 2] log_lik;
    log_lik[, 1] = observed .* (log(0.5) + wald_log_density(
      decision_time, threshold[1], rep_vector(guessing_drift, T)));
    log_lik[, 2] = observed .* (wald_log_density(decision_time, threshold[2], winner)
      + wald_log_survival(decision_time, threshold[2], loser));
    return log_lik;
  }
  matrix log_transitions(vector stay) {
    matrix[2, 2] log_A;
    log_A[1, 1] = log(stay[1]);
    log_A[1, 2] = log1m(stay[1]);
    log_A[2, 1] = log1m(stay[2]);
    log_A[2, 2] = log(stay[2]);
    return log_A;
  }
  matrix forward(matrix log_A, matrix log_lik) {
    int T = rows(log_lik);
    matrix[T, 2] log_alpha;
    log_alpha[1] = log_lik[1] - log(2);
    for (t in 2:T) {
      for (k in 1:2) {
        log_alpha[t, k] = log_lik[t, k] + log_sum_exp(
          log_alpha[t - 1, 1] + log_A[1, k], log_alpha[t - 1, 2] + log_A[2, k]);
      }
    }
    return log_alpha;
  }
}
data {
  int<lower=1> T;                             // trials
  vector[T] rt;                               // response times in seconds
  array[T] int<lower=0, upper=1> correct;
  array[T] int<lower=0, upper=1> observed;    // 0: the trial is missing, its rt is ignored
  real<lower=0> fastest;                      // smallest observed response time
  vector<lower=0>[2] stay_prior;              // parameters of the Beta distribution
  vector[2] guessing_threshold;               // here and below: location and scale
  vector[2] threshold_difference;
  vector[2] guessing_drift_prior;
  vector[2] incorrect_drift;
  vector[2] drift_difference;
  real<lower=0> non_decision_time_mean;
}
transformed data {
  vector[T] time;                             // any possible value where it is missing
  for (t in 1:T) {
    time[t] = observed[t] == 1 ? rt[t] : fastest + 1;
  }
}
parameters {
  vector<lower=0, upper=1>[2] stay;
  positive_ordered[2] threshold;
  real<lower=0> guessing_drift;
  positive_ordered[2] controlled_drift;       // of the incorrect and of the correct response
  real<lower=0, upper=fastest> non_decision_time;
}
model {
  stay ~ beta(stay_prior[1], stay_prior[2]);
  threshold[1] ~ normal(guessing_threshold[1], guessing_threshold[2]);
  threshold[2] - threshold[1] ~ normal(threshold_difference[1], threshold_difference[2]);
  guessing_drift ~ normal(guessing_drift_prior[1], guessing_drift_prior[2]);
  controlled_drift[1] ~ normal(incorrect_drift[1], incorrect_drift[2]);
  controlled_drift[2] - controlled_drift[1] ~ normal(drift_difference[1], drift_difference[2]);
  non_decision_time ~ exponential(1 / non_decision_time_mean);
  matrix[T, 2] log_alpha = forward(log_transitions(stay), log_likelihoods(
    time - non_decision_time, to_vector(correct), to_vector(observed),
    threshold, guessing_drift, controlled_drift));
  target += log_sum_exp(log_alpha[T]);
}
generated quantities {
  matrix[T, 2] filtering;                     // p(z[t] = k | y[1:t], theta)
  matrix[T, 2] membership;                    // smoothing: p(z[t] = k | y[1:T], theta)
  array[T] int path;                          // a draw of z[1:T] from p(z | y, theta), from 1
  {
    matrix[2, 2] log_A = log_transitions(stay);
    matrix[T, 2] log_lik = log_likelihoods(
      time - non_decision_time, to_vector(correct), to_vector(observed),
      threshold, guessing_drift, controlled_drift);
    matrix[T, 2] log_alpha = forward(log_A, log_lik);
    row_vector[2] log_beta = rep_row_vector(0, 2);
    vector[2] after = rep_vector(0, 2);       // log A[, path[t + 1]]; nothing follows the last
    for (s in 1:T) {
      int t = T + 1 - s;
      filtering[t] = softmax(log_alpha[t]')';
      membership[t] = softmax((log_alpha[t] + log_beta)')';
      row_vector[2] following = log_lik[t] + log_beta;
      for (j in 1:2) {
        log_beta[j] = log_sum_exp(log_A[j] + following);
      }
      path[t] = categorical_rng(softmax(log_alpha[t]' + after));
      for (k in 1:2) {
        if (path[t] == k) {
          after = log_A[, k];
        }
      }
    }
  }
}
