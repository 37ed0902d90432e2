// 8 warps, 2 stages
module @gdpa_backward_keys {
  tt.func public @gdpa_backward_keys(%arg0: !tt.ptr<i32> {tt.divisibility = 32 : i32}, %arg1: !tt.ptr<i32> {tt.divisibility = 32 : i32}, %arg2: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg3: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg4: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg5: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg6: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg7: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg8: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg9: !tt.ptr<f32> {tt.divisibility = 32 : i32}) {
    %cst = arith.constant dense<0.000000e+00> : tensor<128xf32>
    %cst_0 = arith.constant dense<33554432> : tensor<128x128xi32>
    %cst_1 = arith.constant dense<256> : tensor<128xi32>
    %cst_2 = arith.constant dense<5.000000e-01> : tensor<128x32xf32>
    %cst_3 = arith.constant dense<-1.000000e+00> : tensor<128x32xf32>
    %cst_4 = arith.constant dense<0.000000e+00> : tensor<128x32xf32>
    %cst_5 = arith.constant dense<0.000000e+00> : tensor<32x128xbf16>
    %cst_6 = arith.constant dense<128> : tensor<32x128xi32>
    %cst_7 = arith.constant dense<512> : tensor<32x128xi32>
    %cst_8 = arith.constant dense<524288> : tensor<32x128xi32>
    %cst_9 = arith.constant dense<0.000000e+00> : tensor<128x128xf32>
    %cst_10 = arith.constant dense<0.000000e+00> : tensor<128x128xbf16>
    %cst_11 = arith.constant dense<128> : tensor<128x128xi32>
    %cst_12 = arith.constant dense<512> : tensor<128x128xi32>
    %cst_13 = arith.constant dense<131072> : tensor<128x128xi32>
    %c31_i32 = arith.constant 31 : i32
    %cst_14 = arith.constant -5.000000e-01 : f32
    %cst_15 = arith.constant -1.500000e+00 : f32
    %cst_16 = arith.constant 5.000000e-01 : f32
    %cst_17 = arith.constant 0.0356774069 : f32
    %cst_18 = arith.constant 0.797884583 : f32
    %c32_i32 = arith.constant 32 : i32
    %c4_i32 = arith.constant 4 : i32
    %c128_i32 = arith.constant 128 : i32
    %c1024_i32 = arith.constant 1024 : i32
    %c0_i32 = arith.constant 0 : i32
    %c1_i32 = arith.constant 1 : i32
    %c2_i32 = arith.constant 2 : i32
    %0 = tt.get_program_id x : i32
    %1 = arith.remui %0, %c2_i32 : i32
    %2 = tt.get_program_id y : i32
    %3 = tt.get_program_id z : i32
    %4 = arith.divsi %1, %c2_i32 : i32
    %5 = arith.cmpi sgt, %1, %c0_i32 : i32
    %6 = arith.extui %5 : i1 to i32
    %7 = arith.cmpi slt, %1, %c0_i32 : i32
    %8 = arith.extui %7 : i1 to i32
    %9 = arith.subi %6, %8 : i32
    %10 = arith.cmpi ne, %9, %c1_i32 : i32
    %11 = arith.remsi %1, %c2_i32 : i32
    %12 = arith.cmpi ne, %11, %c0_i32 : i32
    %13 = arith.andi %10, %12 : i1
    %14 = arith.subi %4, %c1_i32 : i32
    %15 = arith.select %13, %14, %4 : i32
    %16 = tt.addptr %arg0, %3 : !tt.ptr<i32>, i32
    %17 = tt.load %16 : !tt.ptr<i32>
    %18 = tt.addptr %arg1, %3 : !tt.ptr<i32>, i32
    %19 = tt.load %18 : !tt.ptr<i32>
    %20 = arith.muli %3, %c4_i32 : i32
    %21 = arith.addi %20, %2 : i32
    %22 = tt.addptr %arg2, %21 : !tt.ptr<f32>, i32
    %23 = tt.load %22 : !tt.ptr<f32>
    %24 = arith.cmpi slt, %11, %c0_i32 : i32
    %25 = arith.andi %24, %12 : i1
    %26 = arith.addi %11, %c2_i32 : i32
    %27 = arith.select %25, %26, %11 : i32
    %28 = arith.muli %27, %c128_i32 : i32
    %29 = arith.muli %15, %c32_i32 : i32
    %30 = arith.addi %29, %c32_i32 : i32
    %31 = arith.minsi %30, %c32_i32 : i32
    %32 = arith.addi %17, %c31_i32 : i32
    %33 = arith.divsi %32, %c32_i32 : i32
    %34 = arith.cmpi sgt, %32, %c0_i32 : i32
    %35 = arith.extui %34 : i1 to i32
    %36 = arith.cmpi slt, %32, %c0_i32 : i32
    %37 = arith.extui %36 : i1 to i32
    %38 = arith.subi %35, %37 : i32
    %39 = arith.cmpi ne, %38, %c1_i32 : i32
    %40 = arith.remsi %32, %c32_i32 : i32
    %41 = arith.cmpi ne, %40, %c0_i32 : i32
    %42 = arith.andi %39, %41 : i1
    %43 = arith.subi %33, %c1_i32 : i32
    %44 = arith.select %42, %43, %33 : i32
    %45 = arith.maxsi %29, %44 : i32
    %46 = arith.minsi %31, %45 : i32
    %47 = tt.make_range {end = 128 : i32, start = 0 : i32} : tensor<128xi32>
    %48 = tt.splat %28 : i32 -> tensor<128xi32>
    %49 = arith.addi %48, %47 : tensor<128xi32>
    %50 = tt.splat %19 : i32 -> tensor<128xi32>
    %51 = arith.cmpi slt, %49, %50 : tensor<128xi32>
    %52 = tt.expand_dims %51 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
    %53 = tt.broadcast %52 : tensor<128x1xi1> -> tensor<128x128xi1>
    %54 = tt.splat %3 : i32 -> tensor<128x128xi32>
    %55 = arith.muli %54, %cst_13 : tensor<128x128xi32>
    %56 = tt.expand_dims %49 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
    %57 = tt.broadcast %56 : tensor<128x1xi32> -> tensor<128x128xi32>
    %58 = arith.muli %57, %cst_12 : tensor<128x128xi32>
    %59 = arith.addi %55, %58 : tensor<128x128xi32>
    %60 = tt.splat %2 : i32 -> tensor<128x128xi32>
    %61 = arith.muli %60, %cst_11 : tensor<128x128xi32>
    %62 = arith.addi %59, %61 : tensor<128x128xi32>
    %63 = tt.expand_dims %47 {axis = 0 : i32} : tensor<128xi32> -> tensor<1x128xi32>
    %64 = tt.broadcast %63 : tensor<1x128xi32> -> tensor<128x128xi32>
    %65 = arith.addi %62, %64 : tensor<128x128xi32>
    %66 = tt.splat %arg4 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
    %67 = tt.addptr %66, %65 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
    %68 = tt.load %67, %53, %cst_10 : tensor<128x128x!tt.ptr<bf16>>
    %69 = tt.splat %arg5 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
    %70 = tt.addptr %69, %65 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
    %71 = tt.load %70, %53, %cst_10 : tensor<128x128x!tt.ptr<bf16>>
    %72:2 = scf.for %arg10 = %29 to %46 step %c1_i32 iter_args(%arg11 = %cst_9, %arg12 = %cst_9) -> (tensor<128x128xf32>, tensor<128x128xf32>)  : i32 {
      %101 = arith.muli %arg10, %c32_i32 : i32
      %102 = tt.make_range {end = 32 : i32, start = 0 : i32} : tensor<32xi32>
      %103 = tt.splat %101 : i32 -> tensor<32xi32>
      %104 = arith.addi %103, %102 : tensor<32xi32>
      %105 = tt.splat %17 : i32 -> tensor<32xi32>
      %106 = arith.cmpi slt, %104, %105 : tensor<32xi32>
      %107 = tt.expand_dims %106 {axis = 1 : i32} : tensor<32xi1> -> tensor<32x1xi1>
      %108 = tt.broadcast %107 : tensor<32x1xi1> -> tensor<32x128xi1>
      %109 = tt.splat %3 : i32 -> tensor<32x128xi32>
      %110 = arith.muli %109, %cst_8 : tensor<32x128xi32>
      %111 = tt.expand_dims %104 {axis = 1 : i32} : tensor<32xi32> -> tensor<32x1xi32>
      %112 = tt.broadcast %111 : tensor<32x1xi32> -> tensor<32x128xi32>
      %113 = arith.muli %112, %cst_7 : tensor<32x128xi32>
      %114 = arith.addi %110, %113 : tensor<32x128xi32>
      %115 = tt.splat %2 : i32 -> tensor<32x128xi32>
      %116 = arith.muli %115, %cst_6 : tensor<32x128xi32>
      %117 = arith.addi %114, %116 : tensor<32x128xi32>
      %118 = tt.broadcast %63 : tensor<1x128xi32> -> tensor<32x128xi32>
      %119 = arith.addi %117, %118 : tensor<32x128xi32>
      %120 = tt.splat %arg3 : !tt.ptr<bf16> -> tensor<32x128x!tt.ptr<bf16>>
      %121 = tt.addptr %120, %119 : tensor<32x128x!tt.ptr<bf16>>, tensor<32x128xi32>
      %122 = tt.load %121, %108, %cst_5 : tensor<32x128x!tt.ptr<bf16>>
      %123 = tt.splat %arg6 : !tt.ptr<bf16> -> tensor<32x128x!tt.ptr<bf16>>
      %124 = tt.addptr %123, %119 : tensor<32x128x!tt.ptr<bf16>>, tensor<32x128xi32>
      %125 = tt.load %124, %108, %cst_5 : tensor<32x128x!tt.ptr<bf16>>
      %126 = tt.trans %122 {order = array<i32: 1, 0>} : tensor<32x128xbf16> -> tensor<128x32xbf16>
      %127 = tt.dot %68, %126, %cst_4, inputPrecision = tf32 : tensor<128x128xbf16> * tensor<128x32xbf16> -> tensor<128x32xf32>
      %128 = arith.mulf %23, %cst_18 : f32
      %129 = arith.mulf %23, %23 : f32
      %130 = arith.mulf %129, %23 : f32
      %131 = arith.mulf %130, %cst_17 : f32
      %132 = arith.mulf %127, %127 : tensor<128x32xf32>
      %133 = tt.splat %131 : f32 -> tensor<128x32xf32>
      %134 = tt.splat %128 : f32 -> tensor<128x32xf32>
      %135 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %132, %133, %134 : tensor<128x32xf32>, tensor<128x32xf32>, tensor<128x32xf32> -> tensor<128x32xf32>
      %136 = arith.mulf %127, %135 : tensor<128x32xf32>
      %137 = tt.elementwise_inline_asm "tanh.approx.f32 $0, $1;" {constraints = "=f,f", packed_element = 1 : i32, pure = true} %136 : tensor<128x32xf32> -> tensor<128x32xf32>
      %138 = arith.mulf %23, %cst_16 : f32
      %139 = tt.splat %138 : f32 -> tensor<128x32xf32>
      %140 = arith.mulf %127, %139 : tensor<128x32xf32>
      %141 = arith.mulf %131, %cst_15 : f32
      %142 = arith.mulf %128, %cst_14 : f32
      %143 = tt.splat %141 : f32 -> tensor<128x32xf32>
      %144 = tt.splat %142 : f32 -> tensor<128x32xf32>
      %145 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %132, %143, %144 : tensor<128x32xf32>, tensor<128x32xf32>, tensor<128x32xf32> -> tensor<128x32xf32>
      %146 = arith.mulf %127, %145 : tensor<128x32xf32>
      %147 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %137, %137, %cst_3 : tensor<128x32xf32>, tensor<128x32xf32>, tensor<128x32xf32> -> tensor<128x32xf32>
      %148 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %140, %137, %140 : tensor<128x32xf32>, tensor<128x32xf32>, tensor<128x32xf32> -> tensor<128x32xf32>
      %149 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %137, %cst_2, %cst_2 : tensor<128x32xf32>, tensor<128x32xf32>, tensor<128x32xf32> -> tensor<128x32xf32>
      %150 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %146, %147, %149 : tensor<128x32xf32>, tensor<128x32xf32>, tensor<128x32xf32> -> tensor<128x32xf32>
      %151 = arith.truncf %148 : tensor<128x32xf32> to tensor<128x32xbf16>
      %152 = tt.dot %151, %125, %cst_9, inputPrecision = tf32 : tensor<128x32xbf16> * tensor<32x128xbf16> -> tensor<128x128xf32>
      %153 = arith.addf %arg12, %152 : tensor<128x128xf32>
      %154 = tt.trans %125 {order = array<i32: 1, 0>} : tensor<32x128xbf16> -> tensor<128x32xbf16>
      %155 = tt.dot %71, %154, %cst_4, inputPrecision = tf32 : tensor<128x128xbf16> * tensor<128x32xbf16> -> tensor<128x32xf32>
      %156 = arith.mulf %150, %155 : tensor<128x32xf32>
      %157 = arith.truncf %156 : tensor<128x32xf32> to tensor<128x32xbf16>
      %158 = tt.dot %157, %122, %cst_9, inputPrecision = tf32 : tensor<128x32xbf16> * tensor<32x128xbf16> -> tensor<128x128xf32>
      %159 = arith.addf %arg11, %158 : tensor<128x128xf32>
      scf.yield %159, %153 : tensor<128x128xf32>, tensor<128x128xf32>
    }
    %73 = tt.splat %23 : f32 -> tensor<128x128xf32>
    %74 = arith.mulf %72#0, %73 : tensor<128x128xf32>
    %75 = arith.cmpi slt, %49, %cst_1 : tensor<128xi32>
    %76 = tt.expand_dims %75 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
    %77 = tt.broadcast %76 : tensor<128x1xi1> -> tensor<128x128xi1>
    %78 = arith.truncf %74 : tensor<128x128xf32> to tensor<128x128xbf16>
    %79 = tt.splat %15 : i32 -> tensor<128x128xi32>
    %80 = arith.muli %79, %cst_0 : tensor<128x128xi32>
    %81 = arith.addi %80, %55 : tensor<128x128xi32>
    %82 = arith.addi %81, %58 : tensor<128x128xi32>
    %83 = arith.addi %82, %61 : tensor<128x128xi32>
    %84 = arith.addi %83, %64 : tensor<128x128xi32>
    %85 = tt.splat %arg7 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
    %86 = tt.addptr %85, %84 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
    tt.store %86, %78, %77 : tensor<128x128x!tt.ptr<bf16>>
    %87 = arith.truncf %72#1 : tensor<128x128xf32> to tensor<128x128xbf16>
    %88 = tt.splat %arg8 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
    %89 = tt.addptr %88, %84 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
    tt.store %89, %87, %77 : tensor<128x128x!tt.ptr<bf16>>
    %90 = tt.load %67, %53, %cst_10 : tensor<128x128x!tt.ptr<bf16>>
    %91 = arith.extf %90 : tensor<128x128xbf16> to tensor<128x128xf32>
    %92 = arith.mulf %72#0, %91 : tensor<128x128xf32>
    %93 = "tt.reduce"(%92) <{axis = 1 : i32}> ({
    ^bb0(%arg10: f32, %arg11: f32):
      %101 = arith.addf %arg10, %arg11 : f32
      tt.reduce.return %101 : f32
    }) : (tensor<128x128xf32>) -> tensor<128xf32>
    %94 = arith.subf %cst, %93 : tensor<128xf32>
    %95 = arith.subf %cst, %94 : tensor<128xf32>
    %96 = "tt.reduce"(%95) <{axis = 0 : i32}> ({
    ^bb0(%arg10: f32, %arg11: f32):
      %101 = arith.addf %arg10, %arg11 : f32
      tt.reduce.return %101 : f32
    }) : (tensor<128xf32>) -> f32
    %97 = arith.muli %1, %c1024_i32 : i32
    %98 = arith.addi %97, %20 : i32
    %99 = arith.addi %98, %2 : i32
    %100 = tt.addptr %arg9, %99 : !tt.ptr<f32>, i32
    tt.store %100, %96 : !tt.ptr<f32>
    tt.return
  }
}
