// Package stats tells what the node, its pods and their containers use: as the summary that Kubernetes' /stats/summary has, and
// as the metrics of /metrics/resource (KEP-2371) that metrics-server scrapes.
//
// Nothing is measured until somebody asks. Rates come from two samples at least a second apart; a first request has
// counters only.
package stats
