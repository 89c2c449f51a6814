// Mixture of K normals with one known scale and ordered means, marginalized over z.
//
//   weights ~ Dirichlet(concentration)
//   means   ~ Normal(location, prior_scale), conditioned on means[1] < ... < means[K]
//   y[n, r] ~ sum_k weights[k] Normal(means[k], scale), one k for all replicates r of n
//
// The mean of an observation's replicates is sufficient: up to a term free of the parameters,
//   log p(y[n] | z = k) = -n_reps[n] (y_mean[n] - means[k])^2 / (2 scale^2).
data {
  int<lower=1> N;                     // observations (masked ones removed)
  int<lower=1> K;                     // components
  vector[N] y_mean;                   // mean of the observed replicates
  array[N] int<lower=1> n_reps;       // number of observed replicates
  vector<lower=0>[K] concentration;
  vector[K] location;
  real<lower=0> prior_scale;
  real<lower=0> scale;
}
transformed data {
  vector[N] half_precision = to_vector(n_reps) / (2 * square(scale));
}
parameters {
  simplex[K] weights;
  ordered[K] means;
}
model {
  weights ~ dirichlet(concentration);
  means ~ normal(location, prior_scale);

  vector[N] log_lik = log(weights[1]) - half_precision .* square(y_mean - means[1]);
  for (k in 2:K) {
    log_lik = log_sum_exp(log_lik, log(weights[k]) - half_precision .* square(y_mean - means[k]));
  }
  target += sum(log_lik);
}
generated quantities {
  matrix[N, K] membership;            // p(z[n] = k | y, theta)
  for (k in 1:K) {
    membership[, k] = log(weights[k]) - half_precision .* square(y_mean - means[k]);
  }
  for (n in 1:N) {
    membership[n] = softmax(membership[n]')';
  }
}
