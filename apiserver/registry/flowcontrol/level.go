package flowcontrol

import (
	"fmt"
	"math"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

const (
	defaultShares      = 30
	defaultQueues      = 64
	defaultHandSize    = 8
	defaultQueueLength = 50

	maxQueues = 10_000_000
	// maxHashBits is what one hash value can deal hands from.
	maxHashBits = 60
)

type level = *flowcontrolv1.PriorityLevelConfiguration

func levels() *registry.Resource {
	return &registry.Resource{
		Kind:   flowcontrolv1.SchemeGroupVersion.WithKind("PriorityLevelConfiguration"),
		Plural: "prioritylevelconfigurations", Singular: "prioritylevelconfiguration",
		KeyPrefix: "/registry/prioritylevelconfigurations/",
		New:       func() registry.Object { return &flowcontrolv1.PriorityLevelConfiguration{} },
		NewList:   func() runtime.Object { return &flowcontrolv1.PriorityLevelConfigurationList{} },
		Strategy: registry.Strategy{
			Default:        registry.On(defaultLevel),
			PrepareCreate:  registry.On(func(l level) { l.Status = flowcontrolv1.PriorityLevelConfigurationStatus{} }),
			PrepareUpdate:  registry.OnChange(func(l, old level) { l.Status = old.Status }),
			Validate:       registry.Checks(checkLevel),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, l, _ level) { checkLevel(e, l) }),
			ValidateName:   apivalidation.NameIsDNSSubdomain,
			SpecChanged:    registry.Differs(func(l, old level) bool { return !equality.Semantic.DeepEqual(l.Spec, old.Spec) }),

			AllowUnconditionalUpdate: true,
		},
		Columns: levelColumns(),
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(l, body level) { l.Status = body.Status }, func(e *check.Errors, l, _ level) { checkLevelStatus(e, l) }),
		},
	}
}

func defaultLevel(l level) {
	s := &l.Spec
	if s.Exempt != nil {
		setIfNil(&s.Exempt.NominalConcurrencyShares, 0)
		setIfNil(&s.Exempt.LendablePercent, 0)
	}
	if s.Limited == nil {
		return
	}
	setIfNil(&s.Limited.NominalConcurrencyShares, defaultShares)
	setIfNil(&s.Limited.LendablePercent, 0)
	if q := s.Limited.LimitResponse.Queuing; q != nil {
		setIfZero(&q.HandSize, defaultHandSize)
		setIfZero(&q.Queues, defaultQueues)
		setIfZero(&q.QueueLengthLimit, defaultQueueLength)
	}
}

func checkLevel(e *check.Errors, l level) {
	s, at := &l.Spec, field.NewPath("spec")
	if (l.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt) != (s.Type == flowcontrolv1.PriorityLevelEnablementExempt) {
		e.Invalid(at.Child("type"), s.Type, "type must be 'Exempt' if and only if name is 'exempt'")
	}
	switch s.Type {
	case flowcontrolv1.PriorityLevelEnablementExempt:
		if s.Limited != nil {
			e.Forbidden(at.Child("limited"), "must be nil if the type is not Limited")
		}
		if x := s.Exempt; x != nil {
			checkShare(e, x.NominalConcurrencyShares, at.Child("exempt", "nominalConcurrencyShares"))
			checkPercent(e, x.LendablePercent, at.Child("exempt", "lendablePercent"))
		}
	case flowcontrolv1.PriorityLevelEnablementLimited:
		if s.Exempt != nil {
			e.Forbidden(at.Child("exempt"), "must be nil if the type is Limited")
		}
		if s.Limited == nil {
			e.Required(at.Child("limited"), "must not be empty when type is Limited")
		} else {
			checkLimited(e, s.Limited, at.Child("limited"))
		}
	default:
		check.OneOf(e, at.Child("type"), s.Type, flowcontrolv1.PriorityLevelEnablementExempt, flowcontrolv1.PriorityLevelEnablementLimited)
	}
	checkMandatoryLevel(e, l, at)
	checkLevelStatus(e, l)
}

// checkMandatoryLevel: the two levels that every cluster has are as they are, but for how the exempt one lends its seats.
func checkMandatoryLevel(e *check.Errors, l level, at *field.Path) {
	switch l.Name {
	case flowcontrolv1.PriorityLevelConfigurationNameExempt:
		rest := l.Spec
		rest.Exempt = nil
		if !equality.Semantic.DeepEqual(rest, flowcontrolv1.PriorityLevelConfigurationSpec{Type: flowcontrolv1.PriorityLevelEnablementExempt}) {
			e.Invalid(at, l.Spec, fmt.Sprintf("spec of '%s' except the 'spec.exempt' field must equal the fixed value", l.Name))
		}
	case flowcontrolv1.PriorityLevelConfigurationNameCatchAll:
		shares, none := int32(5), int32(0)
		fixed := flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				NominalConcurrencyShares: &shares, LendablePercent: &none,
				LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
			},
		}
		if !equality.Semantic.DeepEqual(l.Spec, fixed) {
			e.Invalid(at, l.Spec, fmt.Sprintf("spec of '%s' must equal the fixed value", l.Name))
		}
	}
}

func checkShare(e *check.Errors, n *int32, at *field.Path) {
	if n != nil && *n < 0 {
		e.Invalid(at, *n, "must be a non-negative integer")
	}
}

func checkPercent(e *check.Errors, n *int32, at *field.Path) {
	if n != nil && (*n < 0 || *n > 100) {
		e.Invalid(at, *n, "must be between 0 and 100, inclusive")
	}
}

func checkLimited(e *check.Errors, l *flowcontrolv1.LimitedPriorityLevelConfiguration, at *field.Path) {
	checkShare(e, l.NominalConcurrencyShares, at.Child("nominalConcurrencyShares"))
	response, here := &l.LimitResponse, at.Child("limitResponse")
	switch response.Type {
	case flowcontrolv1.LimitResponseTypeReject:
		if response.Queuing != nil {
			e.Forbidden(here.Child("queuing"), "must be nil if limited.limitResponse.type is not Limited")
		}
	case flowcontrolv1.LimitResponseTypeQueue:
		if response.Queuing == nil {
			e.Required(here.Child("queuing"), "must not be empty if limited.limitResponse.type is Limited")
		} else {
			checkQueuing(e, response.Queuing, here.Child("queuing"))
		}
	default:
		check.OneOf(e, here.Child("type"), response.Type, flowcontrolv1.LimitResponseTypeQueue, flowcontrolv1.LimitResponseTypeReject)
	}
	checkPercent(e, l.LendablePercent, at.Child("lendablePercent"))
	checkShare(e, l.BorrowingLimitPercent, at.Child("borrowingLimitPercent"))
}

func checkQueuing(e *check.Errors, q *flowcontrolv1.QueuingConfiguration, at *field.Path) {
	if q.QueueLengthLimit <= 0 {
		e.Invalid(at.Child("queueLengthLimit"), q.QueueLengthLimit, "must be positive")
	}
	if q.Queues <= 0 {
		e.Invalid(at.Child("queues"), q.Queues, "must be positive")
	} else if q.Queues > maxQueues {
		e.Invalid(at.Child("queues"), q.Queues, fmt.Sprintf("must not be greater than %d", maxQueues))
	}
	hand := at.Child("handSize")
	switch {
	case q.HandSize <= 0:
		e.Invalid(hand, q.HandSize, "must be positive")
	case q.HandSize > q.Queues:
		e.Invalid(hand, q.HandSize, fmt.Sprintf("should not be greater than queues (%d)", q.Queues))
	case handBits(q) > maxHashBits:
		e.Invalid(hand, q.HandSize, fmt.Sprintf("required entropy bits of deckSize %d and handSize %d should not be greater than %d", q.Queues, q.HandSize, maxHashBits))
	}
}

// handBits is how many random bits it takes to deal a hand of queues.
func handBits(q *flowcontrolv1.QueuingConfiguration) int {
	return int(math.Ceil(math.Log2(float64(q.Queues)) * float64(q.HandSize)))
}

func checkLevelStatus(e *check.Errors, l level) {
	at, seen := field.NewPath("status", "conditions"), map[flowcontrolv1.PriorityLevelConfigurationConditionType]bool{}
	for i, c := range l.Status.Conditions {
		if seen[c.Type] {
			e.Duplicate(at.Index(i).Child("type"), c.Type)
		}
		seen[c.Type] = true
		if c.Type == "" {
			e.Required(at.Index(i).Child("type"), "must not be empty")
		}
	}
}

func levelColumns() []registry.Column {
	limited, queuing := flowcontrolv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc(), flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()
	queued := func(pick func(*flowcontrolv1.QueuingConfiguration) int32) func(level) string {
		return func(l level) string {
			if l.Spec.Limited == nil || l.Spec.Limited.LimitResponse.Queuing == nil {
				return "<none>"
			}
			return fmt.Sprint(pick(l.Spec.Limited.LimitResponse.Queuing))
		}
	}
	return []registry.Column{
		registry.NameColumn(),
		registry.Text("Type", flowcontrolv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"], func(l level) string { return string(l.Spec.Type) }),
		registry.NumericText("NominalConcurrencyShares", limited["nominalConcurrencyShares"], func(l level) string {
			if l.Spec.Limited == nil || l.Spec.Limited.NominalConcurrencyShares == nil {
				return "<none>"
			}
			return fmt.Sprint(*l.Spec.Limited.NominalConcurrencyShares)
		}),
		registry.NumericText("Queues", queuing["queues"], queued(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.Queues })),
		registry.NumericText("HandSize", queuing["handSize"], queued(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.HandSize })),
		registry.NumericText("QueueLengthLimit", queuing["queueLengthLimit"], queued(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.QueueLengthLimit })),
		registry.AgeColumn(),
	}
}
