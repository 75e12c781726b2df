package manifest

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Priorities of the classes that every cluster has. Others are the API's to know.
const (
	clusterCritical = 2000000000
	nodeCritical    = 2000001000
)

// setDefaults fills in the defaults that the API documents, where what runs the pod does not assume them anyway.
func setDefaults(s *corev1.PodSpec) {
	if s.RestartPolicy == "" {
		s.RestartPolicy = corev1.RestartPolicyAlways
	}
	if s.DNSPolicy == "" {
		s.DNSPolicy = corev1.DNSClusterFirst
	}
	if s.SchedulerName == "" {
		s.SchedulerName = corev1.DefaultSchedulerName
	}
	if s.TerminationGracePeriodSeconds == nil {
		seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
		s.TerminationGracePeriodSeconds = &seconds
	}
	if s.SecurityContext == nil {
		s.SecurityContext = &corev1.PodSecurityContext{}
	}
	if s.EnableServiceLinks == nil {
		yes := corev1.DefaultEnableServiceLinks
		s.EnableServiceLinks = &yes
	}
	if s.Priority == nil {
		for name, value := range map[string]int32{"system-cluster-critical": clusterCritical, "system-node-critical": nodeCritical} {
			if s.PriorityClassName == name {
				s.Priority = &value
			}
		}
	}
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			setContainerDefaults(s, &list[i])
		}
	}
}

func setContainerDefaults(s *corev1.PodSpec, c *corev1.Container) {
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = corev1.PullIfNotPresent
		if latest(c.Image) {
			c.ImagePullPolicy = corev1.PullAlways
		}
	}
	if c.TerminationMessagePath == "" {
		c.TerminationMessagePath = corev1.TerminationMessagePathDefault
	}
	if c.TerminationMessagePolicy == "" {
		c.TerminationMessagePolicy = corev1.TerminationMessageReadFile
	}
	for i := range c.Ports {
		port := &c.Ports[i]
		if port.Protocol == "" {
			port.Protocol = corev1.ProtocolTCP
		}
		if s.HostNetwork && port.HostPort == 0 {
			port.HostPort = port.ContainerPort
		}
	}
	for name, limit := range c.Resources.Limits {
		if _, ok := c.Resources.Requests[name]; !ok {
			if c.Resources.Requests == nil {
				c.Resources.Requests = corev1.ResourceList{}
			}
			c.Resources.Requests[name] = limit.DeepCopy()
		}
	}
}

// latest says whether an image is named without a tag or digest, or with the tag that means whatever is newest.
func latest(image string) bool {
	if strings.Contains(image, "@") {
		return false
	}
	name := image[strings.LastIndex(image, "/")+1:]
	_, tag, ok := strings.Cut(name, ":")
	return !ok || tag == "latest"
}
