package plan

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// shape is what of a pod matters to a node by itself, apart from other pods' labels. Pods of equal shape have equal verdicts and
// scores on every node, and share one value.
type shape struct {
	requests
	affinity    *nodeaffinity.RequiredNodeAffinity
	preferred   *nodeaffinity.PreferredSchedulingTerms
	tolerations []corev1.Toleration
	ports       []hostPort
	images      []string
	containers  int

	// rankings by the topology keys that they are divided by.
	rankings map[partition]*ranking
}

// hostPort is a port of the node that a pod takes.
type hostPort struct {
	ip, protocol string
	port         int32
}

// anyIP is the address that conflicts with every other.
const anyIP = "0.0.0.0"

func (p hostPort) conflicts(q hostPort) bool {
	return p.port == q.port && p.protocol == q.protocol && (p.ip == q.ip || p.ip == anyIP || q.ip == anyIP)
}

// shapeOf returns the shape of a pod, made once for all equal pods.
func (c *Cluster) shapeOf(pod *corev1.Pod) (*shape, error) {
	req := c.resources.podRequests(pod)
	key := shapeKey(pod, req)
	if s := c.shapes[string(key)]; s != nil {
		return s, nil
	}
	s := &shape{
		requests: req, tolerations: pod.Spec.Tolerations, ports: hostPorts(pod),
		images: images(pod), containers: len(pod.Spec.Containers) + len(pod.Spec.InitContainers), rankings: map[partition]*ranking{},
	}
	if a := pod.Spec.Affinity; len(pod.Spec.NodeSelector) > 0 || (a != nil && a.NodeAffinity != nil) {
		required := nodeaffinity.GetRequiredNodeAffinity(pod)
		s.affinity = &required
		if a != nil && a.NodeAffinity != nil && len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
			terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
			if err != nil {
				return nil, err
			}
			s.preferred = terms
		}
	}
	c.forgetShapes()
	c.shapes[string(key)] = s
	return s, nil
}

// shapeKey spells everything that goes into a shape, each part with its length, so that no two different shapes are spelt alike.
func shapeKey(pod *corev1.Pod, req requests) []byte {
	key := make([]byte, 0, 192)
	number := func(v int64) { key = binary.AppendVarint(key, v) }
	text := func(s string) { number(int64(len(s))); key = append(key, s...) }
	number(int64(len(req.amounts)))
	for _, a := range req.amounts {
		number(int64(a.id))
		number(a.value)
	}
	number(req.scoreCPU)
	number(req.scoreMemory)
	labels := make([]string, 0, len(pod.Spec.NodeSelector))
	for k, v := range pod.Spec.NodeSelector {
		labels = append(labels, strconv.Itoa(len(k))+k+v)
	}
	slices.Sort(labels)
	text(strings.Join(labels, "\x00"))
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		text(mustMarshal(a.NodeAffinity))
	} else {
		text("")
	}
	number(int64(len(pod.Spec.Tolerations)))
	for i := range pod.Spec.Tolerations {
		text(mustMarshal(&pod.Spec.Tolerations[i]))
	}
	for _, p := range hostPorts(pod) {
		text(p.ip)
		text(p.protocol)
		number(int64(p.port))
	}
	number(-1)
	number(int64(len(pod.Spec.InitContainers)))
	for _, image := range images(pod) {
		text(image)
	}
	return key
}

// mustMarshal encodes part of an API object; writing to memory cannot fail.
func mustMarshal(m interface{ Marshal() ([]byte, error) }) string {
	b, err := m.Marshal()
	if err != nil {
		panic("plan: " + err.Error())
	}
	return string(b)
}

func hostPorts(pod *corev1.Pod) []hostPort {
	var ports []hostPort
	add := func(containers []corev1.Container) {
		for i := range containers {
			for _, p := range containers[i].Ports {
				if p.HostPort <= 0 {
					continue
				}
				hp := hostPort{p.HostIP, string(p.Protocol), p.HostPort}
				if hp.ip == "" {
					hp.ip = anyIP
				}
				if hp.protocol == "" {
					hp.protocol = string(corev1.ProtocolTCP)
				}
				ports = append(ports, hp)
			}
		}
	}
	add(pod.Spec.Containers)
	for i := range pod.Spec.InitContainers {
		if rp := pod.Spec.InitContainers[i].RestartPolicy; rp != nil && *rp == corev1.ContainerRestartPolicyAlways {
			add(pod.Spec.InitContainers[i : i+1])
		}
	}
	return ports
}

// images are the pod's image names as nodes report them, with a tag.
func images(pod *corev1.Pod) []string {
	out := make([]string, 0, len(pod.Spec.Containers)+len(pod.Spec.InitContainers))
	for i := range pod.Spec.InitContainers {
		out = append(out, imageName(pod.Spec.InitContainers[i].Image))
	}
	for i := range pod.Spec.Containers {
		out = append(out, imageName(pod.Spec.Containers[i].Image))
	}
	return out
}

func imageName(name string) string {
	if strings.LastIndex(name, ":") <= strings.LastIndex(name, "/") {
		return name + ":latest"
	}
	return name
}

// maxShapes bounds how many shapes are remembered for pods that share them; beyond it those without rankings are forgotten.
// At about 1 KiB each it is 16 MiB.
const maxShapes = 16_384

// forgetShapes keeps the number of shapes within its bound.
func (c *Cluster) forgetShapes() {
	if len(c.shapes) <= maxShapes {
		return
	}
	for key, s := range c.shapes {
		if len(s.rankings) == 0 {
			delete(c.shapes, key)
		}
	}
}
