package server

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// Stats reports what pods and their containers use now.
func (s *Server) Stats(ctx context.Context, r *nodev1.StatsRequest) (*nodev1.StatsResponse, error) {
	response := &nodev1.StatsResponse{}
	pods := map[string]*nodev1.PodStats{}
	for _, c := range s.pods.RunningContainers(r.GetNamespace(), r.GetPod()) {
		used, err := c.Sandbox.Stats(ctx, c.ID)
		if err != nil {
			continue // it has ended since
		}
		p := pods[c.UID]
		if p == nil {
			p = &nodev1.PodStats{Namespace: c.Namespace, Name: c.Pod, Uid: c.UID}
			pods[c.UID] = p
			response.Pods = append(response.Pods, p)
		}
		p.Containers = append(p.Containers, &nodev1.ContainerStats{
			Name: c.Container, Time: timestamppb.New(used.Time), CpuUsageCoreNanoseconds: uint64(used.CPUUsage.Nanoseconds()),
			MemoryWorkingSetBytes: used.MemoryWorkingSet, MemoryRssBytes: used.MemoryRSS, Pids: used.Pids,
		})
	}
	return response, nil
}
