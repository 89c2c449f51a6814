// Mixture of K log-normals with ordered locations, marginalized over z.
//
//   weights      ~ Dirichlet(concentration)
//   locations    ~ Normal(location, location_scale), conditioned on locations[1] < ... < locations[K]
//   scales[k]    ~ LogNormal(log(scale_median), scale_sigma)
//   y[n]         ~ sum_k weights[k] LogNormal(locations[k], scales[k])
//
// Up to a term free of the parameters,
//   log p(y[n] | z = k) = -log scales[k] - (log y[n] - locations[k])^2 / (2 scales[k]^2).
data {
  int<lower=1> N;                     // observations (masked ones removed)
  int<lower=1> K;                     // components
  vector<lower=0>[N] y;
  vector<lower=0>[K] concentration;
  vector[K] location;
  real<lower=0> location_scale;
  real<lower=0> scale_median;
  real<lower=0> scale_sigma;
}
transformed data {
  if (min(y) <= 0) {
    reject("y: expected positive numbers, got ", min(y));
  }
  vector[N] log_y = log(y);
}
parameters {
  simplex[K] weights;
  ordered[K] locations;
  vector<lower=0>[K] scales;
}
model {
  weights ~ dirichlet(concentration);
  locations ~ normal(location, location_scale);
  scales ~ lognormal(log(scale_median), scale_sigma);

  vector[N] log_lik = log(weights[1]) - log(scales[1])
                      - 0.5 * square((log_y - locations[1]) / scales[1]);
  for (k in 2:K) {
    log_lik = log_sum_exp(log_lik, log(weights[k]) - log(scales[k])
                                   - 0.5 * square((log_y - locations[k]) / scales[k]));
  }
  target += sum(log_lik);
}
generated quantities {
  matrix[N, K] membership;            // p(z[n] = k | y, theta)
  for (k in 1:K) {
    membership[, k] = log(weights[k]) - log(scales[k])
                      - 0.5 * square((log_y - locations[k]) / scales[k]);
  }
  for (n in 1:N) {
    membership[n] = softmax(membership[n]')';
  }
}
